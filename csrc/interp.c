/* The walk through the interpolation predictor's stages, and what is known around each row (FORMAT.md, section 11).
 *
 * SZ3 (Zhao et al. 2021) predicts each value from the splines through its reconstructed neighbours along one axis,
 * level by level. Here every value also sees the neighbours' neighbours along the other axes, and those of its own
 * stage that lie in rows before it; the weights are fitted stage by stage. Values of a row never depend on each other,
 * so that rows are computed by vectors. */
#include "interp.h"

enum { PAD_BEFORE = 1, PAD = 3 };
#define NO_EDGES UINT32_MAX /* of no row */

/* Rooms for any tile within `extent`, whatever the order: at most two thirds of the values are known before the last
 * stage that has any to come, but for a tile of one value; short rows have more padding than values. */
typedef struct interp_rooms {
    size_t known, mean, coming, row;
} interp_rooms;

static interp_rooms rooms_of(const uint64_t *extent, unsigned rank)
{
    size_t n = 1, last = (size_t)extent[rank - 1];
    for (unsigned a = 0; a < rank; a++)
        n *= (size_t)extent[a];
    size_t lines = n / last;
    return (interp_rooms){n * 2 / 3 + (PAD + 1) * lines + 2 * INTERP_SLACK, n / 2 + 2 * lines + 2 * INTERP_SLACK,
                          n / 2 + lines + 2 * INTERP_SLACK,
                          lines > 1 ? last + 2 * INTERP_SLACK
                                    : 2 * INTERP_SLACK}; /* a single row never needs rows beyond the ends */
}

size_t interp_walk_scratch(const uint64_t *extent, unsigned rank, unsigned bytes)
{
    interp_rooms r = rooms_of(extent, rank);
    return (2 * r.known + r.mean + r.coming + 3 * r.row) * bytes + 8 * 64;
}

void interp_walk_begin(interp_walk *w, const tile *t, bool is_double, uint32_t isa, uint8_t **scratch)
{
    interp_rooms r = rooms_of(t->extent, t->rank);
    w->k = interp_kernels_for(is_double, isa);
    w->known = take(scratch, r.known * w->k->bytes);
    w->next = take(scratch, r.known * w->k->bytes);
    w->mean = take(scratch, r.mean * w->k->bytes);
    w->coming = take(scratch, r.coming * w->k->bytes);
    for (unsigned i = 0; i < 3; i++)
        w->spare[i] = take(scratch, r.row * w->k->bytes);
}

static uint8_t *known_row(const interp_walk *w, size_t row)
{
    return w->known + (row * (w->s.known[INTERP_LAST] + PAD) + PAD_BEFORE) * w->k->bytes;
}

static uint8_t *mean_row(const interp_walk *w, size_t row)
{
    return w->mean + (row * (w->s.width + 2) + 1) * w->k->bytes;
}

uint8_t *interp_coming(const interp_walk *w, size_t row) { return w->coming + row * w->s.width * w->k->bytes; }

/* The known values on both sides: left, right, and the next but one; beyond the ends straight lines go on. */
static void look_aside(interp_walk *w, interp_row *r)
{
    const interp_stage *s = &w->s;
    size_t row = (r->place[0] * s->known[1] + r->place[1]) * s->known[2] + r->place[2], bytes = w->k->bytes;
    const uint8_t **side = r->side;
    r->inside = true;
    if (s->axis == INTERP_LAST) {
        const uint8_t *left = known_row(w, row);
        for (size_t i = 0; i < 4; i++)
            side[i] = left + i * bytes - bytes;
        return;
    }
    size_t between = interp_rows_between(s->known, s->axis), i = r->place[s->axis], n = s->known[s->axis];
    side[1] = known_row(w, row);
    side[2] = i + 1 < n ? known_row(w, row + between) : NULL;
    side[0] = i ? known_row(w, row - between) : NULL;
    side[3] = i + 2 < n ? known_row(w, row + 2 * between) : NULL;
    r->inside = side[0] && side[2] && side[3];
    if (!side[2] && side[0]) {
        w->k->extend(side[1], side[0], s->width, w->spare[0]);
        side[2] = w->spare[0];
    }
    side[2] = side[2] ? side[2] : side[1];
    if (!side[0]) {
        w->k->extend(side[1], side[2], s->width, w->spare[1]);
        side[0] = w->spare[1];
    }
    if (!side[3]) {
        w->k->extend(side[2], side[1], s->width, w->spare[2]);
        side[3] = w->spare[2];
    }
}

/* At which edges a row lies: along each axis at the first place, the second, the last. */
static uint32_t edges_of(const interp_stage *s, const interp_row *r)
{
    uint32_t edges = 0;
    for (unsigned a = 0; a < INTERP_LAST; a++)
        edges = edges << 3 | (uint32_t)(r->place[a] == 0) << 2 | (uint32_t)(r->place[a] == 1) << 1 |
                (uint32_t)(r->place[a] + 1 == s->extent[a]);
    return edges;
}

/* How far, in rows' bytes, the means one step back and on along an axis are; 0 at the array's ends. */
static void look_around(const interp_walk *w, const interp_row *r, unsigned a, int32_t *back, int32_t *on)
{
    int32_t bytes = (int32_t)w->k->bytes;
    if (a == INTERP_LAST) {
        *back = -bytes;
        *on = bytes;
        return;
    }
    int32_t step = (int32_t)(w->between[a] * (w->s.width + 2)) * bytes;
    *back = r->place[a] ? -step : 0;
    *on = r->place[a] + 1 < w->s.extent[a] ? step : 0;
}

/* False where there is no such row. */
static bool place_causal(const interp_walk *w, const interp_row *r, const interp_place *p, interp_tap *t)
{
    ptrdiff_t a = (ptrdiff_t)r->place[p->a] + p->da, b = (ptrdiff_t)r->place[p->b] + p->db;
    ptrdiff_t rows = p->da * (ptrdiff_t)w->between[p->a] + p->db * (ptrdiff_t)w->between[p->b];
    t->at[0] = (int32_t)(rows * (ptrdiff_t)(w->s.width * w->k->bytes));
    t->at[1] = (int32_t)(rows * (ptrdiff_t)((w->s.width + 2) * w->k->bytes));
    return a >= 0 && b >= 0 && b < (ptrdiff_t)w->s.extent[p->b];
}

static bool place_tap(const interp_walk *w, const interp_row *r, const interp_place *p, interp_tap *t)
{
    int32_t back[2], on[2];
    t->kind = p->kind;
    if (p->kind == TAP_CAUSAL)
        return place_causal(w, r, p, t);
    look_around(w, r, p->a, back, on);
    look_around(w, r, p->b, back + 1, on + 1);
    bool quad = p->kind == TAP_QUAD;
    t->at[0] = quad ? back[0] + back[1] : back[0];
    t->at[1] = quad ? back[0] + on[1] : on[0];
    t->at[2] = on[0] + back[1];
    t->at[3] = on[0] + on[1];
    return true;
}

static void tell_taps(const interp_walk *w, const interp_row *r, uint32_t edges, interp_taps_at *to)
{
    unsigned count[TAP_CAUSAL + 1] = {0};
    to->edges = edges;
    to->count = 0;
    for (unsigned i = 0; i < r->chosen_count; i++) {
        interp_tap *t = to->taps + to->count;
        t->number = r->chosen[i];
        t->weight_single = (float)r->weights[i] * (1.0f / INTERP_UNIT);
        t->weight_double = r->weights[i] * (1.0 / INTERP_UNIT);
        if (place_tap(w, r, w->places.place + t->number, t)) {
            count[t->kind]++;
            to->count++;
        }
    }
    to->pairs = count[TAP_PAIR];
    to->quads = count[TAP_QUAD];
}

void interp_choose(const interp_walk *w, enum interp_choice choice, const int16_t *weights, interp_row *r)
{
    memset(r->place, 0, sizeof r->place);
    r->row = 0;
    r->at_edges = NULL;
    for (unsigned i = 0; i < INTERP_TOLD; i++)
        r->told[i].edges = NO_EDGES;
    r->curve = choice != CHOOSE_NONE && (!weights || weights[0]);
    r->curve_single = weights ? (float)weights[0] * (1.0f / INTERP_UNIT) : 0;
    r->curve_double = weights ? weights[0] * (1.0 / INTERP_UNIT) : 0;
    r->chosen_count = 0;
    for (unsigned i = 1; choice != CHOOSE_NONE && i < w->places.count; i++) {
        if ((weights && !weights[i]) || (choice == CHOOSE_PAIRS && w->places.place[i].kind != TAP_PAIR))
            continue;
        r->chosen[r->chosen_count] = (uint8_t)i;
        r->weights[r->chosen_count++] = weights ? weights[i] : 0;
    }
}

static void go_to(const interp_stage *s, size_t number, interp_row *r)
{
    bool next = number == r->row + 1;
    r->row = number;
    for (unsigned a = INTERP_LAST; next && a-- > 0; r->place[a] = 0)
        if (++r->place[a] < s->extent[a])
            return;
    for (unsigned a = INTERP_LAST; a-- > 0; number /= s->extent[a])
        r->place[a] = number % s->extent[a];
}

/* From a row to the next, where neither is near an end and all of its neighbours are rows of their own. */
static bool go_on(const interp_walk *w, size_t number, interp_row *r)
{
    const interp_stage *s = &w->s;
    size_t bytes = w->k->bytes, at = r->place[INTERP_LAST - 1];
    if (number != r->row + 1 || !r->at_edges || !r->inside || at < 2 || at + 3 >= s->extent[INTERP_LAST - 1])
        return false;
    r->row = number;
    r->place[INTERP_LAST - 1]++;
    for (unsigned i = 0; i < 4; i++)
        r->side[i] += (s->known[INTERP_LAST] + PAD) * bytes;
    r->mean += (s->width + 2) * bytes;
    r->coming += s->width * bytes;
    return true;
}

void interp_row_at(interp_walk *w, size_t number, interp_row *r)
{
    if (go_on(w, number, r))
        return;
    go_to(&w->s, number, r);
    look_aside(w, r);
    r->mean = mean_row(w, number);
    r->coming = interp_coming(w, number);
    if (!r->chosen_count && r->at_edges)
        return;
    uint32_t edges = edges_of(&w->s, r);
    interp_taps_at *told = r->told + (edges & 7 ? 1 + (edges >> 1 & 3) : 0) % INTERP_TOLD;
    if (edges != told->edges)
        tell_taps(w, r, edges, told);
    r->at_edges = told;
}

void interp_begin_stage(interp_walk *w, const interp_stage *s)
{
    interp_row row;
    size_t bytes = w->k->bytes;
    w->s = *s;
    for (unsigned a = 0; a < INTERP_LAST; a++)
        w->between[a] = interp_rows_between(s->extent, a);
    interp_places_of(s, &w->places);
    interp_choose(w, CHOOSE_NONE, NULL, &row);
    for (size_t r = 0; r < s->rows; r++) {
        interp_row_at(w, r, &row);
        uint8_t *m = mean_row(w, r);
        w->k->mean(row.side[1], row.side[2], s->width, m);
        memcpy(m - bytes, m, bytes);
        memcpy(m + s->width * bytes, m + (s->width - 1) * bytes, bytes);
    }
}

/* How much known values differ around each coming one, in steps. */
void interp_classes(interp_walk *w, double step, const uint8_t *empty, uint8_t *classes)
{
    const interp_stage *s = &w->s;
    interp_row row;
    bool last = s->axis == INTERP_LAST && interp_has_border(s);
    interp_choose(w, CHOOSE_PAIRS, NULL, &row);
    for (size_t r = 0; r < s->rows; r++, classes += s->width) {
        if (empty && empty[r]) {
            memset(classes, INTERP_SKIPPED, s->width);
            continue;
        }
        interp_row_at(w, r, &row);
        if (interp_is_border(s, &row)) {
            memset(classes, INTERP_CLASSES - 1, s->width);
            continue;
        }
        w->k->classify(&row, s->width, 1 / step, classes);
        if (last)
            classes[s->width - 1] = INTERP_CLASSES - 1;
    }
}

uint8_t *interp_anchor(const interp_walk *w) { return w->known + PAD_BEFORE * w->k->bytes; }

void interp_begin_values(interp_walk *w) { w->k->pad(interp_anchor(w), 1); }

/* Values of rows side by side. */
static void merge_values(const interp_walk *w, uint8_t *to)
{
    const interp_stage *s = &w->s;
    size_t bytes = w->k->bytes, rows = s->known[0] * s->known[1] * s->known[2], n = s->known[INTERP_LAST] + s->width;
    for (size_t r = 0; r < rows; r++, to += (n + PAD) * bytes) {
        w->k->weave(known_row(w, r), interp_coming(w, r), s->width, to);
        if (s->known[INTERP_LAST] > s->width)
            memcpy(to + 2 * s->width * bytes, known_row(w, r) + s->width * bytes, bytes);
        w->k->pad(to, n);
    }
}

/* So many whole rows, `apart` bytes from each other. Returns where they end. */
static uint8_t *merge_rows(const interp_walk *w, const uint8_t *from, size_t apart, size_t rows, uint8_t *to)
{
    size_t bytes = w->k->bytes;
    for (size_t r = 0; r < rows; r++, from += apart, to += (w->s.width + PAD) * bytes) {
        memcpy(to, from, w->s.width * bytes);
        w->k->pad(to, w->s.width);
    }
    return to;
}

/* Whole rows by turns. */
static void merge_along(const interp_walk *w, uint8_t *to)
{
    const interp_stage *s = &w->s;
    size_t outer = 1, inner = interp_rows_between(s->known, s->axis), known = 0, coming = 0, bytes = w->k->bytes;
    for (unsigned a = 0; a < s->axis; a++)
        outer *= s->known[a];
    for (size_t o = 0; o < outer; o++)
        for (size_t at = 0; at < s->known[s->axis] + s->extent[s->axis]; at++)
            if (at & 1) {
                to = merge_rows(w, interp_coming(w, coming), s->width * bytes, inner, to);
                coming += inner;
            } else {
                to = merge_rows(w, known_row(w, known), (s->width + PAD) * bytes, inner, to);
                known += inner;
            }
}

/* Known and coming values become the next stage's known ones. */
void interp_end_stage(interp_walk *w)
{
    uint8_t *to = w->next + PAD_BEFORE * w->k->bytes;
    if (w->s.axis == INTERP_LAST)
        merge_values(w, to);
    else
        merge_along(w, to);
    uint8_t *spare = w->known;
    w->known = w->next;
    w->next = spare;
}

interp_result_row interp_result(const interp_walk *w, size_t row)
{
    const interp_stage *s = &w->s;
    if (s->axis == INTERP_LAST)
        return (interp_result_row){known_row(w, row), interp_coming(w, row)};
    size_t inner = interp_rows_between(s->known, s->axis), both = s->known[s->axis] + s->extent[s->axis];
    size_t outer = row / inner / both, at = row / inner % both, in = row % inner;
    return (interp_result_row){at & 1 ? interp_coming(w, (outer * s->extent[s->axis] + at / 2) * inner + in)
                                      : known_row(w, (outer * s->known[s->axis] + at / 2) * inner + in),
                               NULL};
}

void interp_pass_begin(interp_pass *pass, interp_walk *w, int16_t (*weights)[INTERP_TAPS], bool apart)
{
    pass->walk = w;
    pass->apart = apart;
    for (unsigned border = 0; border < 1u + apart; border++)
        interp_choose(w, CHOOSE_ALL, weights[border], pass->rows + border);
}

const interp_row *interp_pass_row(interp_pass *pass, size_t number)
{
    interp_row *row = pass->rows;
    interp_row_at(pass->walk, number, row);
    if (pass->apart && interp_is_border(&pass->walk->s, row))
        interp_row_at(pass->walk, number, ++row);
    return row;
}

void interp_pass_predict(interp_pass *pass, const interp_row *row, size_t from, size_t n, uint8_t *p)
{
    const interp_walk *w = pass->walk;
    w->k->predict(row, from, n, p);
    if (pass->apart && w->s.axis == INTERP_LAST && from + n == w->s.width) {
        interp_row_at(pass->walk, row->row, pass->rows + 1);
        w->k->predict(pass->rows + 1, w->s.width - 1, 1, p + (n - 1) * w->k->bytes);
    }
}
