/* Modelled frequency tables (FORMAT.md, section 4): a generalised Gaussian, its shape, scale and centre in 13 bits.
 * What few symbols say about their distribution is hardly more than that; any other table costs more bytes than it
 * saves. Shapes reach from 1/2 (long tails) over 1 (Laplace) to 2 (Gauss). */
#include "internal.h"

enum {
    QUARTERS = 4, /* the density is looked at four times a symbol */
    SHAPES = 8,
    SHAPE_BITS = 3,
    SCALE_BITS = 7,
    SCALES = 1 << SCALE_BITS,
    OFFSET_BITS = 3,
    MOST_OFFSET = 2,
    MODEL_BITS = SHAPE_BITS + SCALE_BITS + OFFSET_BITS,
    LEAST_SCALE = 16,       /* scale number s means 2^((s - 16) / 8) quarters */
    OUT_OF_REACH = 5 * 256, /* 2^(2^5) times less than the centre's is nothing */
    MOST_DISTANCE = QUARTERS * 255 + QUARTERS / 2 + MOST_OFFSET,
    ROUNDS = 3
};

static const uint8_t EIGHTHS[SHAPES] = {4, 5, 6, 7, 8, 10, 13, 16}; /* the shapes */

/* Logarithms of distances in quarters, in 1/256. */
typedef struct distance_logs {
    unsigned most;
    int16_t of[MOST_DISTANCE + 1];
} distance_logs;

static void find_logs(const freq_table *t, distance_logs *l)
{
    unsigned left = t->top - t->lo, right = t->hi - t->top;
    l->most = QUARTERS * (left > right ? left : right) + QUARTERS / 2 + MOST_OFFSET;
    for (unsigned u = 1; u <= l->most; u++)
        l->of[u] = (int16_t)(log2_q16(u) >> 8);
}

/* 2^23 times 2^-((u / scale)^shape) for a distance u in quarters. The exponent is worked out as 2^(shape (log2 u - log2
 * scale)). */
static uint32_t density(const model_table *m, int32_t log)
{
    int32_t x = (log - 32 * ((int32_t)m->scale - LEAST_SCALE)) * EIGHTHS[m->shape] >> 3;
    return x >= OUT_OF_REACH ? 0 : fine_weight(fine_power(x));
}

/* Of symbols lo ... hi: the trapezoidal sums of the density over their quarters. */
static uint64_t weigh(const freq_table *t, const distance_logs *l, uint32_t w[256])
{
    uint32_t of_distance[2 * MOST_DISTANCE + 1], *d = of_distance + MOST_DISTANCE;
    uint64_t sum = 0;
    d[0] = fine_weight(0);
    for (int32_t u = 1; u <= (int32_t)l->most; u++)
        d[u] = d[-u] = density(&t->model, l->of[u]);
    for (unsigned s = t->lo; s <= t->hi; s++) {
        const uint32_t *c = d + QUARTERS * ((int32_t)s - (int32_t)t->top) + t->model.offset;
        w[s] = c[-2] + 2 * (c[-1] + c[0] + c[1]) + c[2];
        sum += w[s];
    }
    return sum;
}

static void expand(const distance_logs *l, freq_table *t)
{
    uint32_t w[256];
    const double sum = (double)weigh(t, l, w);
    freqs_share_out(w, sum, t);
}

/* What the symbols themselves take under it, in bits, nearly. */
static uint64_t payload_bits(const uint32_t counts[256], const freq_table *t, const distance_logs *l)
{
    uint32_t w[256];
    uint64_t bits = 0, sum = weigh(t, l, w);
    double share = (double)(PROB_SUM - (t->hi - t->lo + 1u)) * 256 / (double)sum;
    for (unsigned s = t->lo; s <= t->hi; s++)
        if (counts[s])
            bits += counts[s] * (uint64_t)(((PROB_BITS + 8) << 16) - log2_q16(256 + (uint32_t)(w[s] * share)));
    return bits >> 16;
}

typedef struct moments {
    unsigned lo, hi, top;
    int32_t offset;
    uint64_t n, first, second; /* sums of the distances from the centre, in quarters, and of their squares */
} moments;

/* The centre is the median, to a quarter of a symbol. */
static moments moments_of(const uint32_t counts[256], uint64_t n)
{
    moments m = {0, 255, 0, 0, n, 0, 0};
    while (!counts[m.lo])
        m.lo++;
    while (!counts[m.hi])
        m.hi--;
    uint64_t before = 0;
    for (m.top = m.lo; 2 * (before + counts[m.top]) < n; m.top++)
        before += counts[m.top];
    uint64_t inside = n > 2 * before ? n - 2 * before : 0, whole = 2 * (uint64_t)counts[m.top];
    m.offset = (int32_t)(QUARTERS / 2) - (int32_t)((QUARTERS * inside + whole / 2) / whole);
    for (unsigned s = m.lo; s <= m.hi; s++) {
        int64_t d = QUARTERS * ((int64_t)s - m.top) + m.offset;
        m.first += counts[s] * (uint64_t)(d < 0 ? -d : d);
        m.second += counts[s] * (uint64_t)(d * d);
    }
    return m;
}

/* The scale of a shape with the mean distance that was seen. */
static unsigned scale_of(const moments *m, unsigned shape)
{
    static const int32_t per_mean[SHAPES] = {-932, -585, -373, -233, -135, -11, 90, 144}; /* log2 in 1/256 */
    uint64_t mean = 256 * m->first / m->n + 1;
    int32_t log2 = (int32_t)(log2_q16(mean < UINT32_MAX ? (uint32_t)mean : UINT32_MAX) >> 8) - 8 * 256;
    int32_t scale = (log2 + per_mean[shape] + 16 + 32 * LEAST_SCALE) / 32;
    return scale < 0 ? 0 : scale >= SCALES ? SCALES - 1 : (unsigned)scale;
}

/* The shape whose ratio of the squared mean distance to the mean square is nearest. */
static unsigned shape_of(const moments *m)
{
    static const uint8_t ratios[SHAPES] = {77, 94, 108, 119, 128, 141, 154, 163}; /* in 1/256 */
    uint64_t mean = 16 * m->first / m->n, square = 256 * m->second / m->n + 1;
    uint64_t ratio = 256 * mean * mean / square;
    unsigned shape = 0;
    while (shape + 1 < SHAPES && 2 * ratio > (uint64_t)ratios[shape] + ratios[shape + 1])
        shape++;
    return shape;
}

typedef struct model_search {
    const uint32_t *counts;
    const moments *m;
    const distance_logs *logs;
    uint64_t least; /* bits of the best so far, which is this: */
    model_table best;
    freq_table *work;
} model_search;

/* Whether it is the best so far. */
static bool try_model(model_search *search, int32_t shape, int32_t scale)
{
    if (shape < 0 || shape >= SHAPES || scale < 0 || scale >= SCALES)
        return false;
    search->work->model = (model_table){(uint8_t)shape, (uint8_t)scale, (int8_t)search->m->offset};
    uint64_t bits = payload_bits(search->counts, search->work, search->logs);
    if (bits >= search->least)
        return false;
    search->least = bits;
    search->best = search->work->model;
    return true;
}

/* From the shape and the scale that the moments say to the nearest that are best. */
static void find_best(model_search *search)
{
    const moments *m = search->m;
    const int32_t shape = (int32_t)shape_of(m);
    try_model(search, shape, (int32_t)scale_of(m, (unsigned)shape));
    for (int32_t side = -1; side <= 1; side += 2)
        for (int32_t s = shape + side; s >= 0 && s < SHAPES && try_model(search, s, (int32_t)scale_of(m, (unsigned)s));)
            s += side;
    const int32_t best = search->best.shape, scale = search->best.scale;
    for (int32_t side = -1; side <= 1; side += 2)
        for (int32_t step = 1; step <= ROUNDS && try_model(search, best, scale + side * step);)
            step++;
}

void model_fit(const uint32_t counts[256], uint64_t n, freq_table *out)
{
    moments m = moments_of(counts, n);
    distance_logs logs;
    memset(out, 0, sizeof *out);
    out->lo = (uint8_t)m.lo;
    out->hi = (uint8_t)m.hi;
    out->top = (uint8_t)m.top;
    out->form = TABLE_MODELLED;
    out->bits = MODEL_BITS;
    find_logs(out, &logs);
    model_search search = {counts, &m, &logs, UINT64_MAX, {0, 0, 0}, out};
    find_best(&search);
    out->model = search.best;
    expand(&logs, out);
}

void model_write(const model_table *m, bit_writer *b)
{
    put_bits(b, m->shape, SHAPE_BITS);
    put_bits(b, m->scale, SCALE_BITS);
    put_bits(b, (uint32_t)(m->offset + MOST_OFFSET), OFFSET_BITS);
}

bool model_read(bit_reader *b, freq_table *t)
{
    t->model.shape = (uint8_t)get_bits(b, SHAPE_BITS);
    t->model.scale = (uint8_t)get_bits(b, SCALE_BITS);
    unsigned offset = (unsigned)get_bits(b, OFFSET_BITS);
    if (b->failed || offset > 2 * MOST_OFFSET)
        return false;
    t->model.offset = (int8_t)((int32_t)offset - MOST_OFFSET);
    distance_logs logs;
    find_logs(t, &logs);
    expand(&logs, t);
    return true;
}
