# Makes a model folder for -m of published weight files that you have downloaded:
#   make -f pipelines/published.mk DOWNLOADS=~/Downloads MODEL=models/yfcc
# Nothing is fetched here. While a file is missing, it prints the address and fails; run it again after the download. Files
# are hard-linked into MODEL, or copied if DOWNLOADS is on another file system; the downloads stay as they are. A network
# that MODEL already has is kept: remove it from MODEL to replace it.
# The addresses could not be reached when this was written. If a file has moved, save it under the name it has here.
BIN ?= build
DOWNLOADS ?= $(HOME)/Downloads
MODEL ?= models/yfcc

archive = the-eye.eu/public/AI/models
diffusion = https://$(archive)/yfcc-latent-diffusion-f8-e2-s250k.ckpt
diffusion_mirror = https://mystic.$(archive)/yfcc-latent-diffusion-f8-e2-s250k.ckpt
# The name ends in the SHA-256. None is published for the other two.
SHA256_CLOOB ?= 405a3c31572e0a38f8632fa0db704d0e4521ad663555479f86babd3d178b1892
cloob = https://$(archive)/cloob/cloob_laion_400m_vit_b_16_16_epochs-405a3c31572e0a38f8632fa0db704d0e4521ad663555479f86babd3d178b1892.pkl
autoencoder = https://ommer-lab.com/files/latent-diffusion/kl-f8.zip

include $(dir $(lastword $(MAKEFILE_LIST)))given_names.mk
$(call as_given,BIN DOWNLOADS MODEL)

.ONESHELL:
all:
	@failed=0
	say() { printf 'published.mk: %s\n' "$$1"; }
	refuse() { say "$$1" >&2; failed=1; return 1; }

	# Shells other than bash leave ~ in an argument of make as it is.
	case $$DOWNLOADS in '~'/*) DOWNLOADS=$$HOME$${DOWNLOADS#'~'} ;; esac
	case $$MODEL in '~'/*) MODEL=$$HOME$${MODEL#'~'} ;; esac

	find_network() { # STEM: sets `file` to the network in MODEL, whatever its format
	    for ending in safetensors ckpt pth pt zip pkl; do
	        file=$$MODEL/$$1.$$ending
	        [ ! -e "$$file" ] || return 0
	    done
	    return 1
	}
	inspect() { # FILE KIND: sets `network` to a description of the network, which must be of that kind
	    listed=$$("$$BIN/ccld-weights" -q ls "$$1" 2>&1) || { refuse "$$listed"; return; }
	    network=$$(printf '%s\n' "$$listed" | sed -n 's/^network *//p')
	    case $$network in "$$2"*) ;; *) refuse "'$$1' is not a $$2: $$network" ;; esac
	}
	place() { # FROM TO: links or copies; a copy gets its name when it is complete
	    mkdir -p "$$MODEL" || return
	    if ln -L "$$1" "$$2" 2>/dev/null; then
	        say "linked '$$2' to '$$1'"
	    elif cp "$$1" "$$2.part" && sync "$$2.part" && mv "$$2.part" "$$2"; then
	        say "copied '$$1' to '$$2'"
	    else
	        rm -f "$$2.part"
	        return 1
	    fi
	}
	get() { # NAME KIND SHA256 URL [MIRROR]
	    find_network "$${1%.*}" && return
	    file=$$DOWNLOADS/$${4##*/}
	    [ -s "$$file" ] ||
	        { refuse "missing $$1: download $$4$${5:+ (mirror: $$5)} into '$$DOWNLOADS'"; return; }
	    if [ -n "$$3" ]; then
	        sum=$$(sha256sum <"$$file") || { refuse "cannot read '$$file'"; return; }
	        [ "$${sum%% *}" = "$$3" ] ||
	            { refuse "'$$file': SHA-256 is $${sum%% *}, expected $$3: download it again"; return; }
	    fi
	    [ ! -x "$$BIN/ccld-weights" ] || inspect "$$file" "$$2" || return
	    place "$$file" "$$MODEL/$$1" || refuse "cannot put '$$file' into '$$MODEL'"
	}

	get diffusion.ckpt 'U-Net' '' '$(diffusion)' '$(diffusion_mirror)'
	get cloob.pkl 'CLOOB' '$(SHA256_CLOOB)' '$(cloob)'
	get autoencoder.zip 'KL autoencoder' '' '$(autoencoder)'
	[ $$failed = 0 ] || exit 1

	for kind in 'diffusion U-Net' 'cloob CLOOB' 'autoencoder KL autoencoder'; do
	    find_network "$${kind%% *}"
	    if [ ! -x "$$BIN/ccld-weights" ]; then
	        say "'$$file' was not inspected: run 'make', then '$$BIN/ccld-weights ls $$file'"
	    elif inspect "$$file" "$${kind#* }"; then
	        say "'$$file': $$network"
	    fi
	done
	exit $$failed

.PHONY: all
