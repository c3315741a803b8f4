/* Interpolated frequency tables (FORMAT.md, section 4): the logarithms of the frequencies at a few distances from the
 * centre, straight lines between them. Residuals have smooth, nearly symmetric distributions, of which such a table
 * takes some ten bytes, whatever the alphabet's size. */
#include "internal.h"

enum {
    SMALLEST_ALPHABET = 8,
    ROUNDS = 2,
    FINE_BITS = 8,
    FINE = 1 << FINE_BITS,
    FRACTION_BITS = 15,
    WEIGHT_BITS = 8,
    KNOT_LIMIT = 4096
};

static const uint8_t DISTANCES[SMOOTH_KNOTS - 1] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192};

/* Knots on one side whose last symbol is `reach` away; d[0] = 0 is the centre. Returns how many, the centre aside. */
static unsigned knots_of(unsigned reach, uint8_t d[SMOOTH_KNOTS + 1])
{
    unsigned n = 0;
    d[0] = 0;
    if (reach == 0)
        return 0;
    while (n < SMOOTH_KNOTS - 1 && DISTANCES[n] < reach) {
        d[n + 1] = DISTANCES[n];
        n++;
    }
    d[n + 1] = (uint8_t)reach;
    return n + 1;
}

static int32_t floor_div(int32_t a, int32_t b) { return a / b - (a % b < 0); } /* b > 0 */

static const uint16_t powers[FINE] = {
#include "exp2.inc"
};

/* 2^FRACTION_BITS .. twice that times 2^(-e / FINE) times 2^WEIGHT_BITS */
uint32_t fine_weight(uint32_t e)
{
    uint32_t whole = (e + FINE - 1) / FINE;
    return whole > FRACTION_BITS + WEIGHT_BITS ? 0 : (uint32_t)powers[(0 - e) % FINE] << WEIGHT_BITS >> whole;
}

/* 2^(x / FINE) in 1 / FINE, for x below 2^12 */
uint32_t fine_power(int32_t x)
{
    int32_t whole = x >> FINE_BITS;
    uint32_t p = (uint32_t)powers[x & (FINE - 1)] << FINE_BITS;
    return whole >= 0 ? p >> (FRACTION_BITS - whole) : whole < -FRACTION_BITS ? 0 : p >> (FRACTION_BITS - whole);
}

/* Logarithms of symbols lo ... hi in 1 / FINE relative to the centre's, side by side. */
static void interpolate(const smooth_table *t, int32_t v[256])
{
    v[t->centre] = 0;
    for (unsigned side = 0; side < 2; side++) {
        uint8_t d[SMOOTH_KNOTS + 1];
        unsigned n = knots_of(side ? t->centre - t->lo : t->hi - t->centre, d);
        int32_t from = 0;
        for (unsigned j = 1; j <= n; j++) {
            int32_t to = t->knots[side][j - 1], span = d[j] - d[j - 1];
            int32_t *at = v + (side ? t->centre - d[j - 1] : t->centre + d[j - 1]), on = side ? -1 : 1;
            if (span & (span - 1))
                for (int32_t i = 1; i <= span; i++)
                    at[on * i] = from + floor_div((to - from) * i, span);
            else /* nearly always */
                for (int32_t i = 1, shift = (int32_t)bit_length((uint32_t)span) - 1; i <= span; i++)
                    at[on * i] = from + ((to - from) * i >> shift);
            from = to;
        }
    }
}

static uint64_t weigh(const smooth_table *t, uint32_t w[256])
{
    int32_t v[256], most = INT32_MIN;
    uint64_t sum = 0;
    interpolate(t, v);
    for (unsigned s = t->lo; s <= t->hi; s++)
        most = v[s] > most ? v[s] : most;
    for (unsigned s = t->lo; s <= t->hi; s++) {
        w[s] = fine_weight((uint32_t)(most - v[s]));
        sum += w[s];
    }
    return sum;
}

static void expand(const smooth_table *t, freq_table *out)
{
    uint32_t w[256];
    const double sum = (double)weigh(t, w);
    memset(out, 0, sizeof *out);
    out->lo = t->lo;
    out->hi = t->hi;
    out->top = t->centre;
    freqs_share_out(w, sum, out);
}

/* The distances of a table's knots, right side first, and how many there are, the centre aside. */
typedef struct knot_places {
    uint8_t d[2][SMOOTH_KNOTS + 1];
    unsigned n[2];
} knot_places;

static knot_places places_of(const smooth_table *t)
{
    knot_places p;
    p.n[0] = knots_of(t->hi - t->centre, p.d[0]);
    p.n[1] = knots_of(t->centre - t->lo, p.d[1]);
    return p;
}

/* What the knots so far lead one to expect at knot j: on the left the right side's value if there is one at that
 * distance, otherwise the last line prolonged. */
static int32_t expected(const smooth_table *t, const knot_places *p, unsigned side, unsigned j)
{
    const uint8_t *d = p->d[side];
    const int32_t *v = t->coded[side];
    if (side && j <= p->n[0] && p->d[0][j] == d[j])
        return t->coded[0][j - 1];
    if (j == 1)
        return 0;
    int32_t last = v[j - 2], before = j > 2 ? v[j - 3] : 0;
    return last + floor_div((last - before) * (d[j] - d[j - 1]), d[j - 1] - d[j - 2]);
}

/* Each knot less what is expected, in the order of the table. */
static unsigned list_knots(const smooth_table *t, uint64_t u[2 * SMOOTH_KNOTS])
{
    const knot_places p = places_of(t);
    unsigned count = 0;
    for (unsigned side = 0; side < 2; side++)
        for (unsigned j = 1; j <= p.n[side]; j++)
            u[count++] = zigzag((int64_t)t->coded[side][j - 1] - expected(t, &p, side, j));
    return count;
}

static bool read_knots(bit_reader *b, smooth_table *t)
{
    const knot_places p = places_of(t);
    for (unsigned side = 0; side < 2; side++)
        for (unsigned j = 1; j <= p.n[side]; j++) {
            uint64_t u = get_exp_golomb(b, t->order);
            int64_t v = u > 4 * KNOT_LIMIT ? KNOT_LIMIT + 1 : expected(t, &p, side, j) + unzigzag(u);
            if (b->failed || v > KNOT_LIMIT || v < -KNOT_LIMIT)
                return false;
            t->coded[side][j - 1] = (int32_t)v;
        }
    return true;
}

/* The order of the knots' codes that takes the fewest bits; how many with the unit and the order. */
static uint32_t choose_order(smooth_table *t)
{
    uint64_t u[2 * SMOOTH_KNOTS];
    unsigned count = list_knots(t, u);
    uint32_t least = UINT32_MAX;
    for (unsigned order = 0; order < 4; order++) {
        uint32_t bits = 4;
        for (unsigned i = 0; i < count; i++)
            bits += exp_golomb_bits(u[i], order);
        if (bits < least) {
            least = bits;
            t->order = (uint8_t)order;
        }
    }
    return least;
}

static void refine_coded(smooth_table *t)
{
    for (unsigned side = 0; side < 2; side++)
        for (unsigned j = 0; j < SMOOTH_KNOTS; j++)
            t->knots[side][j] = t->coded[side][j] * (FINE / 4 >> t->unit);
}

/* The symbol about which most of the counts lie closest: the peak of sums of three. */
static unsigned peak(const uint32_t counts[256], unsigned lo, unsigned hi)
{
    unsigned best = lo;
    uint64_t most = 0;
    for (unsigned s = lo; s <= hi; s++) {
        uint64_t sum = (uint64_t)counts[s] * 2 + (s > lo ? counts[s - 1] : 0) + (s < hi ? counts[s + 1] : 0);
        if (sum > most) {
            most = sum;
            best = s;
        }
    }
    return best;
}

/* Sum of x over the symbols nearer to knot j than to its neighbours. */
static uint64_t around(const uint32_t x[256], const smooth_table *t, unsigned side, unsigned j, unsigned n,
                       const uint8_t *d)
{
    uint64_t sum = 0;
    unsigned from = (d[j - 1] + d[j]) / 2 + 1, to = j == n ? d[n] : (d[j] + d[j + 1]) / 2;
    if (from > d[j])
        from = d[j];
    for (unsigned i = from; i <= to; i++)
        sum += x[side ? t->centre - i : t->centre + i];
    return sum;
}

static int32_t log2_fine(uint64_t v)
{
    unsigned shift = bit_length(v) > 31 ? bit_length(v) - 31 : 0;
    return (int32_t)((log2_q16((uint32_t)(v >> shift) | 1) >> 8) + (shift << 8));
}

/* Moves each knot by the ratio of what was counted about it to what the table predicts. */
static void fit_round(const uint32_t counts[256], smooth_table *t)
{
    uint32_t w[256];
    weigh(t, w);
    int32_t centre = log2_fine(((uint64_t)counts[t->centre] << 10) + 64) - log2_fine((uint64_t)w[t->centre] + 1);
    for (unsigned side = 0; side < 2; side++) {
        uint8_t d[SMOOTH_KNOTS + 1];
        unsigned n = knots_of(side ? t->centre - t->lo : t->hi - t->centre, d);
        for (unsigned j = 1; j <= n; j++) {
            uint64_t seen = around(counts, t, side, j, n, d), model = around(w, t, side, j, n, d);
            int32_t v = t->knots[side][j - 1] + log2_fine((seen << 10) + 64) - log2_fine(model + 1) - centre;
            t->knots[side][j - 1] = v < -20 * FINE ? -20 * FINE : v > 20 * FINE ? 20 * FINE : v;
        }
    }
}

static void quantize_knots(smooth_table *t)
{
    int32_t step = FINE / 4 >> t->unit;
    for (unsigned side = 0; side < 2; side++)
        for (unsigned j = 0; j < SMOOTH_KNOTS; j++)
            t->coded[side][j] = floor_div(t->knots[side][j] + step / 2, step);
}

bool smooth_fit(const uint32_t counts[256], uint64_t n, freq_table *out)
{
    unsigned lo = 0, hi = 255;
    while (!counts[lo])
        lo++;
    while (!counts[hi])
        hi--;
    if (hi - lo < SMALLEST_ALPHABET)
        return false;
    smooth_table t = {.lo = (uint8_t)lo, .hi = (uint8_t)hi, .centre = (uint8_t)peak(counts, lo, hi)};
    for (unsigned round = 0; round < ROUNDS; round++)
        fit_round(counts, &t);
    t.unit = n < 4096 ? 0 : n < 65536 ? 1 : 2;
    quantize_knots(&t);
    uint32_t bits = choose_order(&t);
    refine_coded(&t);
    expand(&t, out);
    out->form = TABLE_INTERPOLATED;
    out->bits = bits;
    out->knots = t;
    return true;
}

void smooth_write(const freq_table *f, bit_writer *b)
{
    const smooth_table *t = &f->knots;
    uint64_t u[2 * SMOOTH_KNOTS];
    unsigned count = list_knots(t, u);
    put_bits(b, t->unit, 2);
    put_bits(b, t->order, 2);
    for (unsigned i = 0; i < count; i++)
        put_exp_golomb(b, u[i], t->order);
}

bool smooth_read(bit_reader *b, freq_table *f)
{
    smooth_table t = {.lo = f->lo, .hi = f->hi, .centre = f->top};
    t.unit = (uint8_t)get_bits(b, 2);
    t.order = (uint8_t)get_bits(b, 2);
    if (!read_knots(b, &t) || b->failed)
        return false;
    refine_coded(&t);
    expand(&t, f);
    return true;
}
