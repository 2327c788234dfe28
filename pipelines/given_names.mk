# Names of files and folders that the user gives to a recipe.

# Stops if one of these variables has blanks in it, for which make would take it for several names.
without_blanks = $(foreach name,$(1),$(if $(word 2,$($(name))),$(error $(name) has blanks in it: '$($(name))'. Make splits names \
    there: give another name, or that of a link)))

# For names that only the shell uses: exports the variables to it, and takes them as the user gave them, with each $ and blank.
as_given = $(foreach name,$(1),$(if $(filter command environment,$(firstword $(origin $(name)))),$(eval \
    override $(name) := $$(value $(name))))$(eval export $(name)))
