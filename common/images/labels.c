#include "common/images/labels.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "formats/text/bitmap_font.h"
#include "formats/text/codepoints.h"

#define LINES_MAX ((int)(sizeof((struct label *)0)->begins / sizeof(int)))
#define MARGIN    4   /* dots above and below */
#define INDENT    2   /* dots on the left and on the right */
#define WIDE_CELL 512 /* pixels, from which on the font is twice as large */
#define ELLIPSIS  0x2026

static const char *prompt_of(const struct grid *g, int i)
{
    const char *prompt = i < g->count ? image_remarks_find(&g->remarks[i], "prompt") : NULL;
    return prompt ? prompt : "";
}

static bool same_prompt(const struct grid *g, int a, int b)
{
    return strcmp(prompt_of(g, a), prompt_of(g, b)) == 0;
}

static bool row_is_uniform(const struct grid *g, int columns, int row)
{
    int first = row * columns, end = first + columns < g->count ? first + columns : g->count;
    for (int i = first + 1; i < end; i++)
        if (!same_prompt(g, first, i))
            return false;
    return first < g->count;
}

/* The next row says the same. */
static bool row_continues(const struct grid *g, int columns, int row)
{
    int first = row * columns;
    return row_is_uniform(g, columns, row) && row_is_uniform(g, columns, row + 1) &&
           same_prompt(g, first, first + columns);
}

/* Where a line of at most `width` characters from `begin` on ends: after a word if there is one. */
static int line_end(const uint32_t *text, int begin, int count, int width)
{
    if (count - begin <= width)
        return count;
    for (int end = begin + width; end > begin; end--)
        if (text[end] == ' ')
            return end;
    return begin + width;
}

static void break_lines(struct label *l, int count, int width)
{
    int at = 0;
    if (width < 1)
        width = 1;
    while (at < count && l->lines < LINES_MAX) {
        int end = line_end(l->text, at, count, width);
        l->begins[l->lines] = at;
        l->ends[l->lines++] = end;
        for (at = end; at < count && l->text[at] == ' ';)
            at++;
    }
    if (at < count) { /* cut */
        int *end = &l->ends[LINES_MAX - 1], begin = l->begins[LINES_MAX - 1];
        if (*end - begin == width && width > 1)
            --*end;
        l->text[(*end)++] = ELLIPSIS;
    }
}

static void add_label(struct labels *l, const struct grid *g, int row, int first, int end,
                      int columns, int cell_width, int padding)
{
    struct label label = {.row = row, .first = first - row * columns, .count = end - first};
    struct codepoints text = {0};
    const char *prompt = prompt_of(g, first);
    if (!*prompt)
        return;
    codepoints_decode(&text, prompt, strlen(prompt));
    for (size_t i = 0; i < text.count; i++)
        if (text.at[i] < ' ')
            text.at[i] = ' ';
    label.text = text.at;
    int width = label.count * (cell_width + padding) - padding;
    break_lines(&label, (int)text.count,
                (width - 2 * INDENT * l->scale) / (BITMAP_FONT_WIDTH * l->scale));
    int height = (label.lines * BITMAP_FONT_HEIGHT + 2 * MARGIN) * l->scale;
    if (height > l->heights[row])
        l->heights[row] = height;
    l->items = xrealloc(l->items, (size_t)(l->count + 1) * sizeof *l->items);
    l->items[l->count++] = label;
}

void labels_plan(struct labels *l, const struct grid *g, int columns, int cell_width, int padding)
{
    int rows = (g->count + columns - 1) / columns;
    *l = (struct labels){.scale = cell_width >= WIDE_CELL ? 2 : 1};
    l->heights = xcalloc((size_t)rows, sizeof *l->heights);
    for (int row = 0; row < rows; row++) {
        int end = (row + 1) * columns < g->count ? (row + 1) * columns : g->count;
        if (row_continues(g, columns, row))
            continue;
        for (int first = row * columns, next; first < end; first = next) {
            for (next = first + 1; next < end && same_prompt(g, first, next);)
                next++;
            add_label(l, g, row, first, next, columns, cell_width, padding);
        }
    }
}

static void set_pixel(struct image *sheet, int x, int y, unsigned value)
{
    if (x < 0 || y < 0 || x >= sheet->width || y >= sheet->height)
        return;
    bool alpha = sheet->channels % 2 == 0;
    unsigned most = sheet->depth == 16 ? 65535 : 255;
    size_t at = ((size_t)y * (size_t)sheet->width + (size_t)x) * (size_t)sheet->channels;
    for (int c = 0; c < sheet->channels; c++, at++) {
        unsigned v = alpha && c == sheet->channels - 1 ? most : value * most;
        if (sheet->depth == 16)
            ((uint16_t *)sheet->pixels)[at] = (uint16_t)v;
        else
            sheet->pixels[at] = (uint8_t)v;
    }
}

static void draw_glyph(struct image *sheet, int left, int top, int scale, uint32_t code_point)
{
    uint8_t rows[BITMAP_FONT_HEIGHT];
    bitmap_font_glyph(rows, code_point);
    for (int y = 0; y < BITMAP_FONT_HEIGHT * scale; y++)
        for (int x = 0; x < BITMAP_FONT_WIDTH * scale; x++)
            set_pixel(sheet, left + x, top + y, rows[y / scale] >> (7 - x / scale) & 1);
}

void labels_draw(const struct labels *l, int row, struct image *sheet, int left, int top,
                 int cell_width, int padding)
{
    for (int y = 0; y < l->heights[row]; y++)
        for (int x = 0; x < sheet->width; x++)
            set_pixel(sheet, x, top + y, 0);
    for (int i = 0; i < l->count; i++) {
        const struct label *label = &l->items[i];
        int x = left + label->first * (cell_width + padding) + INDENT * l->scale;
        int y = top + MARGIN * l->scale;
        for (int line = 0; line < label->lines && label->row == row; line++) {
            for (int c = label->begins[line]; c < label->ends[line]; c++)
                draw_glyph(sheet, x + (c - label->begins[line]) * BITMAP_FONT_WIDTH * l->scale, y,
                           l->scale, label->text[c]);
            y += BITMAP_FONT_HEIGHT * l->scale;
        }
    }
}

void labels_release(struct labels *l)
{
    for (int i = 0; i < l->count; i++)
        free(l->items[i].text);
    free(l->items);
    free(l->heights);
    *l = (struct labels){0};
}
