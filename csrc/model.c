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
    ROUNDS = 3
};

static const uint8_t EIGHTHS[SHAPES] = {4, 5, 6, 7, 8, 10, 13, 16}; /* the shapes */

/* 2^23 times 2^-((d / scale)^shape) for a distance d in quarters. The exponent is worked out as 2^(shape (log2 d - log2
 * scale)), logarithms in 1/256. */
static uint32_t density(const model_table *m, unsigned distance)
{
    if (distance == 0)
        return fine_weight(0);
    int32_t relative = (int32_t)(log2_q16(distance) >> 8) - 32 * ((int32_t)m->scale - LEAST_SCALE);
    int32_t x = relative * EIGHTHS[m->shape];
    x >>= 3;
    return x >= OUT_OF_REACH ? 0 : fine_weight(fine_power(x));
}

/* Of symbols lo ... hi: the trapezoidal sums of the density over their quarters. */
static uint64_t weigh(const model_table *m, unsigned lo, unsigned hi, unsigned top, uint32_t w[256])
{
    uint64_t sum = 0;
    uint32_t edge = 0;
    for (unsigned s = lo; s <= hi; s++) {
        int32_t centre = QUARTERS * ((int32_t)s - (int32_t)top) + m->offset;
        uint32_t d[QUARTERS + 1];
        for (int32_t i = 0; i <= QUARTERS; i++) {
            int32_t at = centre + i - QUARTERS / 2;
            d[i] = i == 0 && s > lo ? edge : density(m, (unsigned)(at < 0 ? -at : at));
        }
        edge = d[QUARTERS];
        w[s] = d[0] + 2 * (d[1] + d[2] + d[3]) + d[4];
        sum += w[s];
    }
    return sum;
}

/* Every symbol gets 1, the rest is shared out by weight, what rounding leaves goes to the top. */
static void expand(const model_table *m, freq_table *t)
{
    uint32_t w[256], others = 0;
    uint64_t sum = weigh(m, t->lo, t->hi, t->top, w), share = PROB_SUM - (t->hi - t->lo + 1u);
    for (unsigned s = t->lo; s <= t->hi; s++)
        if (s != t->top) {
            t->f[s] = (uint16_t)(1 + w[s] * share / sum);
            others += t->f[s];
        }
    t->f[t->top] = (uint16_t)(PROB_SUM - others);
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

static uint64_t try_model(const uint32_t counts[256], const moments *m, int32_t shape, int32_t scale, freq_table *t)
{
    if (shape < 0 || shape >= SHAPES || scale < 0 || scale >= SCALES)
        return UINT64_MAX;
    t->lo = (uint8_t)m->lo;
    t->hi = (uint8_t)m->hi;
    t->top = (uint8_t)m->top;
    t->form = TABLE_MODELLED;
    t->model = (model_table){(uint8_t)shape, (uint8_t)scale, (int8_t)m->offset};
    t->bits = MODEL_BITS;
    expand(&t->model, t);
    return freqs_cost_bits(counts, t);
}

void model_fit(const uint32_t counts[256], uint64_t n, freq_table *out)
{
    moments m = moments_of(counts, n);
    int32_t shape = (int32_t)shape_of(&m);
    memset(out, 0, sizeof *out);
    uint64_t least = try_model(counts, &m, shape, (int32_t)scale_of(&m, (unsigned)shape), out);
    freq_table other = *out;
    for (int32_t side = -1; side <= 1; side += 2) {
        for (int32_t step = side; shape + step >= 0 && shape + step < SHAPES; step += side) {
            uint64_t cost =
                try_model(counts, &m, shape + step, (int32_t)scale_of(&m, (unsigned)(shape + step)), &other);
            if (cost >= least)
                break;
            least = cost;
            *out = other;
        }
    }
    const int32_t best = out->model.shape, scale = out->model.scale;
    for (int32_t side = -1; side <= 1; side += 2)
        for (int32_t step = 1; step <= ROUNDS; step++) {
            uint64_t cost = try_model(counts, &m, best, scale + side * step, &other);
            if (cost >= least)
                break;
            least = cost;
            *out = other;
        }
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
    expand(&t->model, t);
    return true;
}
