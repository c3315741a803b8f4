/* The interpolation predictor's stages and neighbourhoods (FORMAT.md, section 11).
 *
 * SZ3 (Zhao et al. 2021) predicts each value from the splines through its reconstructed neighbours along one axis,
 * level by level. Here every value also sees the neighbours' neighbours along the other axes, and those of its own
 * stage that lie in rows before it; the weights are fitted stage by stage. Values of a row never depend on each other,
 * so that rows are computed by vectors. */
#include "interp.h"

enum { PAD_BEFORE = 1, PAD = 3 };

bool interp_order_valid(unsigned order)
{
    unsigned seen = 0;
    for (unsigned i = 0; i < INTERP_AXES; i++)
        seen |= 1u << (order >> 2 * i & 3);
    return seen == 15 && order < 256;
}

static void extents_of(const tile *t, size_t extent[INTERP_AXES])
{
    for (unsigned a = 0; a < INTERP_AXES; a++)
        extent[a] = a < INTERP_AXES - t->rank ? 1 : (size_t)t->extent[a - (INTERP_AXES - t->rank)];
}

static void complete_stage(interp_stage *s, const size_t extent[INTERP_AXES], size_t step)
{
    size_t stride = 1;
    for (unsigned a = INTERP_AXES; a-- > 0; stride *= extent[a])
        s->spacing[a] *= stride;
    stride = 1;
    for (unsigned a = INTERP_AXES; a-- > s->axis + 1;)
        stride *= extent[a];
    s->first = step * stride;
    s->width = s->extent[INTERP_LAST];
    s->rows = s->extent[0] * s->extent[1] * s->extent[2];
    s->count = s->rows * s->width;
}

void interp_plan_make(const tile *t, unsigned order, interp_plan *plan)
{
    size_t extent[INTERP_AXES], longest = 1;
    unsigned levels = 0;
    extents_of(t, extent);
    for (unsigned a = 0; a < INTERP_AXES; a++)
        longest = extent[a] > longest ? extent[a] : longest;
    while (((size_t)1 << levels) < longest)
        levels++;
    plan->count = 0;
    plan->levels = levels;
    memset(plan->factor, INTERP_FACTOR, sizeof plan->factor);
    for (unsigned level = levels; level-- > 0;) {
        size_t step = (size_t)1 << level, spacing[INTERP_AXES];
        for (unsigned a = 0; a < INTERP_AXES; a++)
            spacing[a] = 2 * step;
        for (unsigned i = 0; i < INTERP_AXES; i++) {
            interp_stage s = {.axis = order >> 2 * i & 3, .level = level};
            for (unsigned a = 0; a < INTERP_AXES; a++) {
                s.known[a] = s.extent[a] = (extent[a] + spacing[a] - 1) / spacing[a];
                s.spacing[a] = spacing[a];
            }
            s.extent[s.axis] = (extent[s.axis] + step - 1) / step - s.known[s.axis];
            spacing[s.axis] = step;
            if (!s.extent[s.axis])
                continue;
            complete_stage(&s, extent, step);
            plan->stages[plan->count++] = s;
        }
    }
}

double interp_step(const interp_plan *plan, const interp_walk *w, unsigned level, double step)
{
    double of_level = step * plan->factor[level] / INTERP_FACTOR;
    return w->k->bytes == 8 ? of_level : (double)(float)of_level;
}

static void list_taps(const interp_stage *s, interp_taps_list *l);

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
    return (interp_rooms){n * 2 / 3 + (PAD + 1) * lines + 16, n / 2 + 2 * lines + 16, n / 2 + lines + 16,
                          lines > 1 ? last + 16 : 16}; /* a single row never needs rows beyond the ends */
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
    extents_of(t, w->extent);
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

/* A row's place along each axis but the last. */
typedef struct place {
    size_t at[INTERP_LAST];
} place;

static place place_of(const interp_stage *s, size_t row)
{
    place p;
    for (unsigned a = INTERP_LAST; a-- > 0; row /= s->extent[a])
        p.at[a] = row % s->extent[a];
    return p;
}

/* How many rows lie between neighbours along an axis of an array with those extents. */
static size_t rows_between(const size_t extent[INTERP_AXES], unsigned axis)
{
    size_t rows = 1;
    for (unsigned a = axis + 1; a < INTERP_LAST; a++)
        rows *= extent[a];
    return rows;
}

size_t interp_first_of_row(const interp_stage *s, size_t row)
{
    place p = place_of(s, row);
    size_t at = s->first;
    for (unsigned a = 0; a < INTERP_LAST; a++)
        at += p.at[a] * s->spacing[a];
    return at;
}

/* The known values on both sides: left, right, and the next but one; beyond the ends straight lines go on. */
static void sides_of(interp_walk *w, const place *p, const uint8_t *side[4])
{
    const interp_stage *s = &w->s;
    size_t row = 0, bytes = w->k->bytes;
    for (unsigned a = 0; a < INTERP_LAST; a++)
        row = row * s->known[a] + p->at[a];
    if (s->axis == INTERP_LAST) {
        const uint8_t *left = known_row(w, row);
        for (size_t i = 0; i < 4; i++)
            side[i] = left + i * bytes - bytes;
        return;
    }
    size_t between = rows_between(s->known, s->axis), i = p->at[s->axis], n = s->known[s->axis];
    side[1] = known_row(w, row);
    side[2] = i + 1 < n ? known_row(w, row + between) : NULL;
    side[0] = i ? known_row(w, row - between) : NULL;
    side[3] = i + 2 < n ? known_row(w, row + 2 * between) : NULL;
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

void interp_begin_stage(interp_walk *w, const interp_stage *s)
{
    w->s = *s;
    for (unsigned a = 0; a < INTERP_LAST; a++)
        w->between[a] = rows_between(s->extent, a);
    list_taps(s, &w->taps);
    for (size_t r = 0; r < s->rows; r++) {
        const uint8_t *side[4];
        place p = place_of(s, r);
        uint8_t *m = mean_row(w, r);
        size_t bytes = w->k->bytes;
        sides_of(w, &p, side);
        w->k->mean(side[1], side[2], s->width, m);
        memcpy(m - bytes, m, bytes);
        memcpy(m + s->width * bytes, m + (s->width - 1) * bytes, bytes);
    }
}

static bool crosses(const interp_stage *s, unsigned a) { return a != s->axis && s->extent[a] > 1; }

static void list_tap(interp_taps_list *l, enum interp_kind kind, unsigned a, unsigned b, int da, int db)
{
    l->taps[l->count++] = (interp_tap_place){kind, (uint8_t)a, (uint8_t)b, (int8_t)da, (int8_t)db};
}

static void list_taps(const interp_stage *s, interp_taps_list *l)
{
    l->count = 0;
    list_tap(l, TAP_PAIR, s->axis, s->axis, 0, 0);
    for (unsigned a = 0; a < INTERP_AXES; a++)
        if (crosses(s, a))
            list_tap(l, TAP_PAIR, a, a, 1, 0);
    for (unsigned a = 0; a < INTERP_AXES; a++)
        for (unsigned b = a + 1; b < INTERP_AXES; b++)
            if (crosses(s, a) && crosses(s, b))
                list_tap(l, TAP_QUAD, a, b, 1, 1);
    for (unsigned a = 0; a < INTERP_LAST; a++)
        if (crosses(s, a)) {
            list_tap(l, TAP_CAUSAL, a, a, -1, 0);
            list_tap(l, TAP_CAUSAL, a, a, -2, 0);
        }
    for (unsigned a = 0; a < INTERP_LAST; a++)
        for (unsigned b = a + 1; b < INTERP_LAST; b++)
            if (crosses(s, a) && crosses(s, b)) {
                list_tap(l, TAP_CAUSAL, a, b, -1, -1);
                list_tap(l, TAP_CAUSAL, a, b, -1, 1);
            }
}

unsigned interp_taps(const interp_stage *s)
{
    interp_taps_list l;
    list_taps(s, &l);
    return l.count;
}

/* How far, in rows' bytes, the means one step back and on along each axis are; 0 at the array's ends. */
typedef struct around {
    const place *at;
    ptrdiff_t back[INTERP_AXES], on[INTERP_AXES];
} around;

static void look_around(const interp_walk *w, const place *p, around *o)
{
    ptrdiff_t pitch = (ptrdiff_t)((w->s.width + 2) * w->k->bytes);
    o->at = p;
    for (unsigned a = 0; a < INTERP_LAST; a++) {
        ptrdiff_t step = (ptrdiff_t)w->between[a] * pitch;
        o->back[a] = p->at[a] ? -step : 0;
        o->on[a] = p->at[a] + 1 < w->s.extent[a] ? step : 0;
    }
    o->back[INTERP_LAST] = -(ptrdiff_t)w->k->bytes;
    o->on[INTERP_LAST] = (ptrdiff_t)w->k->bytes;
}

/* False where there is no such row. */
static bool causal_row(const interp_walk *w, const place *p, const interp_tap_place *t, ptrdiff_t *rows)
{
    ptrdiff_t a = (ptrdiff_t)p->at[t->a] + t->da, b = (ptrdiff_t)p->at[t->b] + t->db;
    *rows = t->da * (ptrdiff_t)w->between[t->a] + t->db * (ptrdiff_t)w->between[t->b];
    return a >= 0 && b >= 0 && b < (ptrdiff_t)w->s.extent[t->b];
}

static void place_tap(const interp_walk *w, size_t row, const around *o, const interp_tap_place *t, unsigned number,
                      interp_row *out)
{
    const uint8_t *m = out->mean;
    interp_tap *to = out->taps + out->count;
    to->kind = t->kind;
    to->number = number;
    if (t->kind == TAP_PAIR) {
        to->at[0] = m + o->back[t->a];
        to->at[1] = m + o->on[t->a];
        out->pairs++;
    } else if (t->kind == TAP_QUAD) {
        to->at[0] = m + o->back[t->a] + o->back[t->b];
        to->at[1] = m + o->back[t->a] + o->on[t->b];
        to->at[2] = m + o->on[t->a] + o->back[t->b];
        to->at[3] = m + o->on[t->a] + o->on[t->b];
    } else {
        ptrdiff_t rows;
        if (!causal_row(w, o->at, t, &rows))
            return;
        to->at[0] = interp_coming(w, row + (size_t)rows);
        to->at[1] = mean_row(w, row + (size_t)rows);
    }
    out->count++;
}

/* Cubic: -1, 9, 9, -1 sixteenths. */
void interp_default_weights(const interp_stage *s, int16_t *weights)
{
    memset(weights, 0, interp_taps(s) * sizeof *weights);
    weights[0] = -INTERP_UNIT / 8;
}

bool interp_has_border(const interp_stage *s) { return s->extent[s->axis] == s->known[s->axis]; }

bool interp_is_border(const interp_stage *s, size_t row, size_t at)
{
    if (s->axis == INTERP_LAST)
        return interp_has_border(s) && at + 1 == s->width;
    return interp_has_border(s) && place_of(s, row).at[s->axis] + 1 == s->extent[s->axis];
}

size_t interp_border_row(const interp_stage *s, size_t i)
{
    size_t inner = rows_between(s->extent, s->axis);
    return ((i / inner + 1) * s->extent[s->axis] - 1) * inner + i % inner;
}

size_t interp_part(const interp_stage *s, size_t at)
{
    bool apart = s->axis == INTERP_LAST && interp_has_border(s) && at + 1 < s->width;
    size_t rest = s->width - at - apart;
    return rest < INTERP_SEGMENT ? rest : INTERP_SEGMENT;
}

void interp_weigh(const interp_row *row, const int16_t *weights, interp_row *out)
{
    unsigned count = 0;
    out->mean = row->mean;
    for (unsigned k = 0; k < row->count; k++) {
        int32_t w = weights[row->taps[k].number];
        if (!w)
            continue;
        out->taps[count] = row->taps[k];
        out->taps[count].weight_single = (float)w * (1.0f / INTERP_UNIT);
        out->taps[count++].weight_double = w * (1.0 / INTERP_UNIT);
    }
    out->count = count;
}

void interp_row_at(interp_walk *w, size_t row, interp_row *out)
{
    const uint8_t *side[4];
    place p = place_of(&w->s, row);
    around o;
    sides_of(w, &p, side);
    look_around(w, &p, &o);
    out->left = side[1];
    out->right = side[2];
    out->mean = mean_row(w, row);
    out->count = out->pairs = 1;
    out->taps[0] = (interp_tap){.kind = TAP_PAIR, .number = 0, .at = {side[0], side[3]}};
    for (unsigned k = 1; k < w->taps.count; k++)
        place_tap(w, row, &o, w->taps.taps + k, k, out);
}

/* How much known values differ around each coming one, in steps. */
void interp_classes(interp_walk *w, double step, uint8_t *classes)
{
    interp_row row;
    for (size_t r = 0; r < w->s.rows; r++) {
        uint8_t *of = classes + r * w->s.width;
        interp_row_at(w, r, &row);
        w->k->classify(&row, w->s.width, 1 / step, of);
        if (interp_is_border(&w->s, r, w->s.width - 1))
            memset(w->s.axis == INTERP_LAST ? of + w->s.width - 1 : of, INTERP_CLASSES - 1,
                   w->s.axis == INTERP_LAST ? 1 : w->s.width);
    }
}

uint8_t *interp_anchor(const interp_walk *w) { return w->known + PAD_BEFORE * w->k->bytes; }

void interp_begin_values(interp_walk *w) { w->k->pad(interp_anchor(w), 1); }

/* Known and coming values become the next stage's known ones. */
void interp_end_stage(interp_walk *w)
{
    const interp_stage *s = &w->s;
    size_t merged[INTERP_AXES], bytes = w->k->bytes;
    memcpy(merged, s->known, sizeof merged);
    merged[s->axis] += s->extent[s->axis];
    size_t rows = merged[0] * merged[1] * merged[2], n = merged[INTERP_LAST], outer = rows_between(merged, s->axis);
    for (size_t r = 0; r < rows; r++) {
        uint8_t *to = w->next + (r * (n + PAD) + PAD_BEFORE) * bytes;
        if (s->axis == INTERP_LAST) {
            w->k->weave(known_row(w, r), interp_coming(w, r), s->width, to);
            if (n & 1)
                memcpy(to + (n - 1) * bytes, known_row(w, r) + s->width * bytes, bytes);
        } else {
            size_t inner = r % outer, at = r / outer % merged[s->axis], above = r / outer / merged[s->axis];
            const uint8_t *from = at & 1 ? interp_coming(w, (above * s->extent[s->axis] + at / 2) * outer + inner)
                                         : known_row(w, (above * s->known[s->axis] + at / 2) * outer + inner);
            memcpy(to, from, n * bytes);
        }
        w->k->pad(to, n);
    }
    uint8_t *spare = w->known;
    w->known = w->next;
    w->next = spare;
}

const uint8_t *interp_values(const interp_walk *w, const size_t extent[INTERP_AXES], size_t row)
{
    return w->known + (row * (extent[INTERP_LAST] + PAD) + PAD_BEFORE) * w->k->bytes;
}
