/* How a tile is laid out in stages, and what each stage looks at (FORMAT.md, section 11). */
#include "interp.h"

bool interp_order_valid(unsigned order)
{
    unsigned seen = 0;
    for (unsigned i = 0; i < INTERP_AXES; i++)
        seen |= 1u << (order >> 2 * i & 3);
    return seen == 15 && order < 256;
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

static void add_level(interp_plan *plan, unsigned level, unsigned order, size_t *before)
{
    size_t step = (size_t)1 << level, spacing[INTERP_AXES];
    for (unsigned a = 0; a < INTERP_AXES; a++)
        spacing[a] = 2 * step;
    for (unsigned i = 0; i < INTERP_AXES; i++) {
        interp_stage s = {.axis = order >> 2 * i & 3, .level = level, .before = *before};
        for (unsigned a = 0; a < INTERP_AXES; a++) {
            s.known[a] = s.extent[a] = (plan->extent[a] + spacing[a] - 1) / spacing[a];
            s.spacing[a] = spacing[a];
        }
        s.extent[s.axis] = (plan->extent[s.axis] + step - 1) / step - s.known[s.axis];
        spacing[s.axis] = step;
        if (!s.extent[s.axis])
            continue;
        complete_stage(&s, plan->extent, step);
        *before += s.count;
        plan->stages[plan->count++] = s;
    }
}

void interp_plan_make(const tile *t, unsigned order, interp_plan *plan)
{
    size_t longest = 1, before = 0;
    for (unsigned a = 0; a < INTERP_AXES; a++) {
        plan->extent[a] = a < INTERP_AXES - t->rank ? 1 : (size_t)t->extent[a - (INTERP_AXES - t->rank)];
        longest = plan->extent[a] > longest ? plan->extent[a] : longest;
    }
    plan->count = plan->levels = 0;
    while (((size_t)1 << plan->levels) < longest)
        plan->levels++;
    memset(plan->factor, INTERP_FACTOR, sizeof plan->factor);
    for (unsigned level = plan->levels; level-- > 0;)
        add_level(plan, level, order, &before);
}

double interp_step(const interp_plan *plan, unsigned level, double step, unsigned bytes)
{
    double of_level = step * plan->factor[level] / INTERP_FACTOR;
    return bytes == 8 ? of_level : (double)(float)of_level;
}

double interp_unit(const szd_header *h, unsigned bytes)
{
    double unit = h->snap ? h->step / h->snap : 0;
    return bytes == 8 ? unit : (double)(float)unit;
}

static bool crosses(const interp_stage *s, unsigned a) { return a != s->axis && s->extent[a] > 1; }

static void list_place(interp_places *l, enum interp_kind kind, unsigned a, unsigned b, int da, int db)
{
    l->place[l->count++] = (interp_place){(uint8_t)kind, (uint8_t)a, (uint8_t)b, (int8_t)da, (int8_t)db};
}

void interp_places_of(const interp_stage *s, interp_places *l)
{
    l->count = 0;
    list_place(l, TAP_PAIR, s->axis, s->axis, 0, 0);
    for (unsigned a = 0; a < INTERP_AXES; a++)
        if (crosses(s, a))
            list_place(l, TAP_PAIR, a, a, 1, 0);
    for (unsigned a = 0; a < INTERP_AXES; a++)
        for (unsigned b = a + 1; b < INTERP_AXES; b++)
            if (crosses(s, a) && crosses(s, b))
                list_place(l, TAP_QUAD, a, b, 1, 1);
    for (unsigned a = 0; a < INTERP_LAST; a++)
        if (crosses(s, a)) {
            list_place(l, TAP_CAUSAL, a, a, -1, 0);
            list_place(l, TAP_CAUSAL, a, a, -2, 0);
        }
    for (unsigned a = 0; a < INTERP_LAST; a++)
        for (unsigned b = a + 1; b < INTERP_LAST; b++)
            if (crosses(s, a) && crosses(s, b)) {
                list_place(l, TAP_CAUSAL, a, b, -1, -1);
                list_place(l, TAP_CAUSAL, a, b, -1, 1);
            }
}

unsigned interp_taps(const interp_stage *s)
{
    interp_places l;
    interp_places_of(s, &l);
    return l.count;
}

/* Cubic: -1, 9, 9, -1 sixteenths. */
void interp_default_weights(const interp_stage *s, int16_t *weights)
{
    memset(weights, 0, interp_taps(s) * sizeof *weights);
    weights[0] = -INTERP_UNIT / 8;
}

bool interp_has_border(const interp_stage *s) { return s->extent[s->axis] == s->known[s->axis]; }

bool interp_is_border(const interp_stage *s, const interp_row *row)
{
    return s->axis != INTERP_LAST && interp_has_border(s) && row->place[s->axis] + 1 == s->extent[s->axis];
}

size_t interp_rows_between(const size_t extent[INTERP_AXES], unsigned axis)
{
    size_t rows = 1;
    for (unsigned a = axis + 1; a < INTERP_LAST; a++)
        rows *= extent[a];
    return rows;
}

size_t interp_border_row(const interp_stage *s, size_t i)
{
    size_t inner = interp_rows_between(s->extent, s->axis);
    return ((i / inner + 1) * s->extent[s->axis] - 1) * inner + i % inner;
}

size_t interp_first_of_row(const interp_stage *s, const interp_row *row)
{
    size_t at = s->first;
    for (unsigned a = 0; a < INTERP_LAST; a++)
        at += row->place[a] * s->spacing[a];
    return at;
}
