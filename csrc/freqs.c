/* Symbol frequencies for rANS: counts scaled to a sum of 4096 and rounded to few mantissa bits, since a table of exact
 * numbers costs more than it saves. Symbols whose count is zero get frequency zero; every other at least 1. */
#include "internal.h"

/* Where a modelled table, which takes 13 bits, may pay for looking for it; bits that symbols take hardly fewer of. */
enum { MOST_MODELLED = 1 << 14, MODEL_GAIN = 32 };
enum { PLACE_ORDER = 2 }; /* of the Exp-Golomb codes of a table's top and ends */

const uint32_t LOG2_TABLE[257] = {
#include "log2.inc"
};
const uint32_t LOG2_SMALL[SMALL_LOGS] = {
#include "log2_small.inc"
};

/* Keeps the `mantissa` bits below the leading one, rounded. */
static uint32_t round_mantissa(uint32_t f, unsigned mantissa)
{
    unsigned b = bit_length(f);
    if (b <= mantissa + 1)
        return f;
    unsigned drop = b - 1 - mantissa;
    return ((f + (1u << (drop - 1))) >> drop) << drop;
}

/* Rounding a frequency to m mantissa bits costs about n 4^-m / 17 bits in all (a relative error uniform in +-2^-(m+1)),
 * and each used symbol pays m bits for it. */
static unsigned best_mantissa(uint64_t n, unsigned used)
{
    unsigned best = 0;
    uint64_t least = UINT64_MAX;
    for (unsigned m = 0; m <= 10; m++) {
        uint64_t cost = ((n / 17) >> (2 * m)) + (uint64_t)used * m;
        if (cost < least) {
            least = cost;
            best = m;
        }
    }
    return best;
}

/* floor(a b / c) where that is below 2^12, for a, b < 2^31 and c < 2^53: so far from the next integer are the others
 * that the rounding of doubles, in any direction, does not reach it. Compilers know vectors for it. */
static inline int32_t quotient(int32_t a, int32_t b, double c) { return (int32_t)((double)a * (double)b / c); }

void freqs_share_out(const uint32_t w[256], double sum, freq_table *t)
{
    const int32_t share = (int32_t)PROB_SUM - (t->hi - t->lo + 1);
    int32_t all = 0;
    for (unsigned s = t->lo; s <= t->hi; s++) {
        int32_t f = 1 + quotient((int32_t)w[s], share, sum);
        t->f[s] = (uint16_t)f;
        all += f;
    }
    t->f[t->top] = (uint16_t)((int32_t)PROB_SUM - (all - t->f[t->top]));
}

/* Takes what the sum is over 4096 from the largest frequencies, one at a time, top excluded. */
static void shrink(freq_table *t, uint32_t excess)
{
    while (excess) {
        unsigned victim = 256;
        for (unsigned s = t->lo; s <= t->hi; s++)
            if (s != t->top && t->f[s] > 1 && (victim == 256 || t->f[s] > t->f[victim]))
                victim = s;
        uint32_t lower = round_mantissa(t->f[victim] - (t->f[victim] + 15u) / 16u, t->mantissa);
        if (lower >= t->f[victim] || lower == 0)
            lower = 1;
        uint32_t cut = t->f[victim] - lower;
        t->f[victim] = (uint16_t)lower;
        excess -= cut < excess ? cut : excess;
    }
}

static void fit_explicit(const uint32_t counts[256], uint64_t n, freq_table *t)
{
    memset(t, 0, sizeof *t);
    unsigned used = 0, lo = 256, hi = 0, top = 0;
    for (unsigned s = 0; s < 256; s++)
        if (counts[s]) {
            lo = lo == 256 ? s : lo;
            hi = s;
            top = counts[s] > counts[top] || !counts[top] ? s : top;
            used++;
        }
    t->lo = (uint8_t)lo;
    t->hi = (uint8_t)hi;
    t->top = (uint8_t)top;
    t->mantissa = (uint8_t)best_mantissa(n, used);
    const double half = (double)(n / 2);
    uint32_t others = 0;
    for (unsigned s = lo; s <= hi; s++)
        if (counts[s] && s != top) {
            uint32_t scaled = (uint32_t)(((double)counts[s] * PROB_SUM + half) / (double)n);
            uint32_t f = round_mantissa(scaled ? scaled : 1, t->mantissa);
            t->f[s] = (uint16_t)(f < PROB_SUM / 2 ? f : PROB_SUM / 2);
            others += t->f[s];
        }
    if (others > PROB_SUM - 1) {
        shrink(t, others - (PROB_SUM - 1));
        others = 0;
        for (unsigned s = lo; s <= hi; s++)
            others += s == top ? 0 : t->f[s];
    }
    assert(others < PROB_SUM && t->f[lo] + (lo == top) && t->f[hi] + (hi == top));
    t->f[top] = (uint16_t)(PROB_SUM - others);
}

/* Of an explicit table, its places aside. */
static uint32_t explicit_bits(const freq_table *t)
{
    uint32_t bits = 0;
    unsigned previous = 6;
    for (unsigned s = t->lo; s <= t->hi; s++) {
        unsigned length = bit_length(t->f[s]), kept = length ? length - 1 : 0;
        if (s == t->top)
            continue;
        bits += exp_golomb_bits(zigzag((int64_t)length - previous), 0) + (kept < t->mantissa ? kept : t->mantissa);
        previous = length;
    }
    return bits;
}

/* The symbols' bits and the table's. */
static uint64_t cost_bits(const uint32_t counts[256], const freq_table *t)
{
    uint64_t cost = 0;
    for (unsigned s = t->lo; s <= t->hi; s++)
        cost += (uint64_t)counts[s] * ((PROB_BITS << 16) - log2_q16(t->f[s]));
    unsigned places = exp_golomb_bits(t->top - t->lo, PLACE_ORDER) + exp_golomb_bits(t->hi - t->top, PLACE_ORDER);
    return (cost >> 16) + 7 + places + (t->form == TABLE_EXPLICIT ? explicit_bits(t) : t->bits);
}

uint64_t freqs_fit(const uint32_t counts[256], uint64_t n, bool may_model, freq_table *t)
{
    freq_table other;
    fit_explicit(counts, n, t);
    uint64_t cost, least = cost_bits(counts, t);
    if (smooth_fit(counts, n, &other) && (cost = cost_bits(counts, &other)) < least) {
        *t = other;
        least = cost;
    }
    uint32_t table = t->form == TABLE_EXPLICIT ? explicit_bits(t) : t->bits;
    if (!may_model || n > MOST_MODELLED || table < MODEL_GAIN || least > 15 * n / 2)
        return least;
    model_fit(counts, n, &other);
    if ((cost = cost_bits(counts, &other)) >= least)
        return least;
    *t = other;
    return cost;
}

static void write_explicit(const freq_table *t, bit_writer *b)
{
    int64_t previous = 6;
    for (unsigned s = t->lo; s <= t->hi; s++) {
        if (s == t->top)
            continue;
        unsigned length = bit_length(t->f[s]);
        put_exp_golomb(b, zigzag((int64_t)length - previous), 0);
        previous = length;
        if (length > 1) {
            unsigned kept = length - 1 < t->mantissa ? length - 1 : t->mantissa;
            put_bits(b, (t->f[s] - (1u << (length - 1))) >> (length - 1 - kept), kept);
        }
    }
}

void freqs_write(const freq_table *t, uint8_t expected_top, writer *w)
{
    bit_writer b = {w, 0, 0};
    put_exp_golomb(&b, zigzag((int64_t)t->top - expected_top), PLACE_ORDER);
    put_exp_golomb(&b, t->top - t->lo, PLACE_ORDER);
    put_exp_golomb(&b, t->hi - t->top, PLACE_ORDER);
    static const uint8_t numbers[] = {[TABLE_INTERPOLATED] = SMOOTH_TABLE, [TABLE_MODELLED] = MODEL_TABLE};
    put_bits(&b, t->form == TABLE_EXPLICIT ? t->mantissa : numbers[t->form], 4);
    switch (t->form) {
    case TABLE_EXPLICIT: write_explicit(t, &b); break;
    case TABLE_INTERPOLATED: smooth_write(t, &b); break;
    case TABLE_MODELLED: model_write(&t->model, &b); break;
    }
    flush_bits(&b);
}

/* The bit length that follows `previous`, or 13 where it is out of range. */
static unsigned next_length(bit_reader *b, unsigned previous)
{
    uint64_t u = get_exp_golomb(b, 0);
    int64_t length = u > 64 ? -1 : (int64_t)previous + unzigzag(u);
    return length < 0 || length > PROB_BITS ? PROB_BITS + 1 : (unsigned)length;
}

static bool read_explicit(bit_reader *b, freq_table *t)
{
    uint32_t sum = 0;
    unsigned length = 6;
    for (unsigned s = t->lo; s <= t->hi; s++) {
        if (s == t->top)
            continue;
        length = next_length(b, length);
        if (length > PROB_BITS || b->failed)
            return false;
        if (length == 0)
            continue;
        unsigned kept = length - 1 < t->mantissa ? length - 1 : t->mantissa;
        uint32_t f = (1u << (length - 1)) + ((uint32_t)get_bits(b, kept) << (length - 1 - kept));
        t->f[s] = (uint16_t)f;
        sum += f;
    }
    if (b->failed || sum >= PROB_SUM)
        return false;
    t->f[t->top] = (uint16_t)(PROB_SUM - sum);
    return t->f[t->lo] && t->f[t->hi];
}

/* Where the table's symbols lie. */
static bool read_places(bit_reader *b, uint8_t expected_top, freq_table *t)
{
    uint64_t top = get_exp_golomb(b, PLACE_ORDER), below = get_exp_golomb(b, PLACE_ORDER),
             above = get_exp_golomb(b, PLACE_ORDER);
    if (b->failed || top > 510 || below > 255 || above > 255 || below + above == 0)
        return false;
    int64_t at = expected_top + unzigzag(top);
    if (at - (int64_t)below < 0 || at + (int64_t)above > 255)
        return false;
    t->top = (uint8_t)at;
    t->lo = (uint8_t)(at - (int64_t)below);
    t->hi = (uint8_t)(at + (int64_t)above);
    return true;
}

bool freqs_read(reader *r, uint8_t expected_top, freq_table *t)
{
    bit_reader b = {r->at, r->end, 0, 0, false};
    memset(t, 0, sizeof *t);
    if (!read_places(&b, expected_top, t))
        return false;
    t->mantissa = (uint8_t)get_bits(&b, 4);
    bool ok = t->mantissa == SMOOTH_TABLE  ? smooth_read(&b, t)
              : t->mantissa == MODEL_TABLE ? model_read(&b, t)
                                           : read_explicit(&b, t);
    r->at = end_bits(&b);
    return ok && !b.failed;
}
