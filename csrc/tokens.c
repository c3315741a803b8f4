/* Residuals as symbols (FORMAT.md, section 6, step 4): the k low bits raw, the high part relative to `base` as one of
 * at most 256 symbols, what lies outside or is too rare for a place in the table as an escape. */
#include "internal.h"

enum { BINS = 1024, SAMPLE = 512, WINDOW = 256, MAX_K = 24, ORDER_SAMPLE = 32 };

typedef struct token_plan {
    unsigned k;
    int32_t base;
    bool escapes;
    uint32_t first, last;    /* the symbols that stand for high parts, in [0, 255]; with escapes, first is at least 1 */
    uint32_t counts[WINDOW]; /* of the symbols as they will be coded */
} token_plan;

typedef struct token_histogram {
    int32_t first; /* the high part of bin 0; bin BINS - 1 also counts what is beyond either end */
    uint32_t bins[BINS];
} token_histogram;

size_t tokens_scratch(size_t n) { return n + symbols_scratch(n) + 64 + sizeof(token_histogram) + sizeof(token_plan); }

/* The value with half the sample at or below it, by fixing its bits from the highest down. */
static uint32_t median_u32(const uint32_t *sample, size_t n)
{
    uint32_t value = 0;
    for (int bit = 31; bit >= 0; bit--) {
        uint32_t candidate = value | 1u << bit;
        size_t below = 0;
        for (size_t i = 0; i < n; i++)
            below += sample[i] < candidate;
        value = below <= n / 2 ? candidate : value;
    }
    return value;
}

/* Centre and spread by medians, so that a few wild residuals do not move them. */
static void sample_shape(const int32_t *r, size_t n, int32_t *centre, uint32_t *deviation)
{
    uint32_t sample[SAMPLE];
    size_t count = n < SAMPLE ? n : SAMPLE;
    for (size_t i = 0; i < count; i++)
        sample[i] = (uint32_t)r[i * n / count] ^ 0x80000000u;
    uint32_t middle = median_u32(sample, count);
    for (size_t i = 0; i < count; i++)
        sample[i] = sample[i] < middle ? middle - sample[i] : sample[i] - middle;
    *centre = (int32_t)(middle ^ 0x80000000u);
    *deviation = median_u32(sample, count);
}

/* The median deviation is about 0.67 standard deviations. Raw bits cost nothing measurable while the high part still
 * spans some eight. */
static unsigned choose_k(uint32_t deviation, size_t n)
{
    uint32_t least = n < 16384 ? 4 : 12; /* fewer symbols where a table must pay for itself */
    unsigned k = 0;
    while (k < MAX_K && (deviation >> (k + 1)) >= least)
        k++;
    return k;
}

INLINE void find_bins(const int32_t *r, size_t n, unsigned k, int32_t first, uint16_t *bins)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bin = (uint32_t)(r[i] >> k) - (uint32_t)first;
        bins[i] = (uint16_t)(bin < BINS - 1 ? bin : BINS - 1);
    }
}

INLINE void find_symbols(const int32_t *r, size_t n, unsigned k, uint32_t base, uint32_t first, uint32_t last,
                         uint8_t *symbols)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t s = (uint32_t)(r[i] >> k) - base;
        symbols[i] = (uint8_t)(s - first <= last - first ? s : 0);
    }
}

/* The two loops over all residuals, for each instruction set. Modulo 2^32 throughout, as the decoder's sum of base and
 * symbol is. */
#define RESIDUAL_LOOPS(suffix, target)                                                                           \
    target static void find_bins_##suffix(const int32_t *r, size_t n, unsigned k, int32_t first, uint16_t *bins) \
    {                                                                                                            \
        find_bins(r, n, k, first, bins);                                                                         \
    }                                                                                                            \
    target static void find_symbols_##suffix(const int32_t *r, size_t n, const token_plan *p, uint8_t *symbols)  \
    {                                                                                                            \
        find_symbols(r, n, p->k, (uint32_t)p->base, p->first, p->last, symbols);                                 \
    }
RESIDUAL_LOOPS(scalar, )
RESIDUAL_LOOPS(avx2, TARGET_AVX2)
RESIDUAL_LOOPS(avx512, TARGET_AVX512)

static void count_high_parts(const int32_t *r, size_t n, unsigned k, uint32_t isa, token_histogram *h)
{
    uint32_t part[4][BINS]; /* equal neighbours do not wait for each other's store */
    uint16_t bins[CHUNK];
    memset(part, 0, sizeof part);
    for (size_t done = 0; done < n; done += CHUNK) {
        size_t count = n - done < CHUNK ? n - done : CHUNK, i = 0;
        PICK(isa, find_bins)(r + done, count, k, h->first, bins);
        for (; i + 4 <= count; i += 4)
            for (size_t j = 0; j < 4; j++)
                part[j][bins[i + j]]++;
        for (; i < count; i++)
            part[0][bins[i]]++;
    }
    for (size_t b = 0; b < BINS; b++)
        h->bins[b] = part[0][b] + part[1][b] + part[2][b] + part[3][b];
}

/* The start of the `width` neighbouring bins that hold most. */
static size_t best_window(const token_histogram *h, size_t width)
{
    uint64_t sum = 0, best = 0;
    size_t start = 0;
    for (size_t b = 0; b < BINS - 1; b++) {
        sum += h->bins[b];
        if (b >= width)
            sum -= h->bins[b - width];
        if (sum > best) {
            best = sum;
            start = b >= width ? b - width + 1 : 0;
        }
    }
    return start;
}

/* A symbol must take at least 1/4096 of the probability. If it occurs c times among n, a place in the table costs about
 * 4 bits and what it takes from the others, 1.44 (n / 4096 - c) bits; an escape costs some 7 bits more than the 12 of
 * the rarest symbol. */
static bool worth_a_place(uint32_t count, size_t n) { return (uint64_t)count * 8 > n / 2841 + 4; }

static void plan_tokens(const token_histogram *h, size_t n, token_plan *p)
{
    size_t lo = 0, hi = BINS - 1;
    while (!h->bins[lo])
        lo++;
    while (!h->bins[hi])
        hi--;
    bool rare = hi - lo >= WINDOW || hi == BINS - 1 || !worth_a_place(h->bins[lo], n) || !worth_a_place(h->bins[hi], n);
    size_t start = rare ? best_window(h, WINDOW - 1) : lo, shift = rare ? 1 : 0;
    size_t end = start + WINDOW - 1 - shift, last = rare ? BINS - 2 : BINS - 1;
    size_t from = start, to = end < last ? end : last;
    while (from < to && !worth_a_place(h->bins[from], n))
        from++;
    while (to > from && !worth_a_place(h->bins[to], n))
        to--;
    p->base = (int32_t)((uint32_t)h->first + (uint32_t)start - (uint32_t)shift);
    p->first = (uint32_t)(from - start + shift);
    p->last = (uint32_t)(to - start + shift);
    memset(p->counts, 0, sizeof p->counts);
    memcpy(p->counts + p->first, h->bins + from, (to - from + 1) * sizeof *p->counts);
    size_t direct = 0;
    for (size_t b = from; b <= to; b++)
        direct += h->bins[b];
    assert(direct <= n && p->last < WINDOW);
    p->escapes = n > direct;
    if (p->escapes)
        p->counts[0] = (uint32_t)(n - direct);
}

/* The position of the first escape at or after i, n if there is none. */
static size_t next_escape(const uint8_t *symbols, size_t i, size_t n)
{
    const uint8_t *p = i < n ? memchr(symbols + i, 0, n - i) : NULL;
    return p ? (size_t)(p - symbols) : n;
}

/* The order that is cheapest for the first escapes. */
static unsigned escape_order(const int32_t *r, size_t n, unsigned k, const uint8_t *symbols)
{
    uint64_t costs[EXP_GOLOMB_ORDERS] = {0};
    size_t i = next_escape(symbols, 0, n);
    for (unsigned seen = 0; i < n && seen < ORDER_SAMPLE; seen++, i = next_escape(symbols, i + 1, n))
        add_exp_golomb_costs(costs, zigzag(r[i] >> k));
    return cheapest_order(costs);
}

static void write_escapes(const int32_t *r, size_t n, const token_plan *p, const uint8_t *symbols, writer *w)
{
    unsigned order = escape_order(r, n, p->k, symbols);
    uint64_t bits = 0;
    for (size_t i = next_escape(symbols, 0, n); i < n; i = next_escape(symbols, i + 1, n))
        bits += exp_golomb_bits(zigzag(r[i] >> p->k), order);
    write_varint(w, p->counts[0]);
    write_u8(w, order);
    write_varint(w, (bits + 7) / 8);
    bit_writer b = {w, 0, 0};
    for (size_t i = next_escape(symbols, 0, n); i < n; i = next_escape(symbols, i + 1, n))
        put_exp_golomb(&b, zigzag(r[i] >> p->k), order);
    flush_bits(&b);
}

void write_packed(const uint32_t *values, size_t n, unsigned k, writer *w)
{
    bit_writer b = {w, 0, 0};
    uint32_t mask = (uint32_t)(((uint64_t)1 << k) - 1);
    for (size_t i = 0; i < n; i++)
        put_bits(&b, values[i] & mask, k);
    flush_bits(&b);
}

static void make_plan(const int32_t *r, size_t n, uint32_t isa, token_histogram *h, token_plan *p)
{
    int32_t centre;
    uint32_t deviation;
    sample_shape(r, n, &centre, &deviation);
    p->k = choose_k(deviation, n);
    int64_t first = (int64_t)(centre >> p->k) - BINS / 2;
    h->first = first < INT32_MIN ? INT32_MIN : (int32_t)first;
    count_high_parts(r, n, p->k, isa, h);
}

void tokens_encode(const int32_t *residuals, size_t n, uint32_t coder, uint32_t isa, uint8_t *scratch, writer *w)
{
    uint8_t *symbols = scratch, *rest = scratch + n, *plans = aligned64(rest + symbols_scratch(n));
    token_histogram *h = (token_histogram *)(void *)plans;
    token_plan *p = (token_plan *)(void *)(h + 1);
    make_plan(residuals, n, isa, h, p);
    plan_tokens(h, n, p);
    PICK(isa, find_symbols)(residuals, n, p, symbols);
    write_u8(w, p->k);
    write_varint(w, zigzag(p->base));
    write_u8(w, p->escapes);
    if (p->escapes)
        write_escapes(residuals, n, p, symbols, w);
    if (p->k)
        write_packed((const uint32_t *)residuals, n, p->k, w);
    symbols_encode(symbols, n, p->counts, coder, isa, rest, w);
}

/* The order-0 entropy in 1/65536 bit of all n, tables not counted; what falls outside the bins at 24 bits each. */
uint64_t tokens_estimate(const int32_t *residuals, size_t n, uint32_t isa, uint8_t *scratch)
{
    token_histogram *h = (token_histogram *)(void *)aligned64(scratch);
    token_plan p;
    make_plan(residuals, n, isa, h, &p);
    uint64_t whole = log2_q16((uint32_t)n), cost = (uint64_t)n * p.k << 16;
    for (size_t b = 0; b < BINS - 1; b++)
        if (h->bins[b])
            cost += h->bins[b] * (whole - log2_q16(h->bins[b]));
    return cost + ((uint64_t)h->bins[BINS - 1] * 24 << 16);
}

static int begin_escapes(token_decoder *d, reader *r, size_t n)
{
    d->escapes_left = read_varint(r);
    d->escape_order = read_u8(r);
    uint64_t size = read_varint(r);
    const uint8_t *p = read_bytes(r, size);
    if (!p)
        return SZD_BLOCK_SHORT;
    d->escape_bits = (bit_reader){p, p + size, 0, 0, false};
    return d->escapes_left >= 1 && d->escapes_left <= n && d->escape_order <= 40 ? SZD_OK : SZD_BLOCK_ESCAPES;
}

int tokens_begin(token_decoder *d, reader *r, size_t n)
{
    d->k = read_u8(r);
    uint64_t base = read_varint(r);
    unsigned flags = read_u8(r);
    if (r->failed)
        return SZD_BLOCK_SHORT;
    if (d->k > MAX_K || base > UINT32_MAX || flags > 1)
        return SZD_BLOCK_NUMBERS;
    d->base = (int32_t)unzigzag(base);
    d->escapes = flags & 1;
    d->escapes_left = 0;
    d->position = 0;
    int status = d->escapes ? begin_escapes(d, r, n) : SZD_OK;
    if (status)
        return status;
    uint64_t size = ((uint64_t)n * d->k + 7) / 8;
    d->low = read_bytes(r, size);
    if (!d->low)
        return SZD_BLOCK_SHORT;
    d->low_end = d->low + size;
    unsigned used = (unsigned)((uint64_t)n * d->k & 7);
    if (used && d->low_end[-1] >> used)
        return SZD_BLOCK_NUMBERS;
    return symbols_begin(&d->symbols, r, n);
}

/* Escape values are rare: found by a second look at the symbols. */
static int patch_escapes(token_decoder *d, int32_t *high, size_t n)
{
    const uint8_t *at = d->buffer;
    while ((at = memchr(at, 0, n - (size_t)(at - d->buffer))) != NULL) {
        uint64_t u = d->escapes_left ? get_exp_golomb(&d->escape_bits, d->escape_order) : UINT64_MAX;
        if (d->escape_bits.failed || u > UINT32_MAX)
            return SZD_BLOCK_ESCAPES;
        d->escapes_left--;
        high[at - d->buffer] = (int32_t)unzigzag(u);
        if ((size_t)(++at - d->buffer) == n)
            break;
    }
    return SZD_OK;
}

static void join_low_bits(const token_decoder *d, int32_t *out, size_t n)
{
    size_t size = (size_t)(d->low_end - d->low);
    uint64_t bit = d->position * d->k;
    for (size_t i = 0; i < n; i++, bit += d->k)
        out[i] = (int32_t)((uint32_t)out[i] << d->k | packed_at(d->low, size, bit, d->k));
}

/* n <= CHUNK */
static int decode_part(token_decoder *d, int32_t *out, size_t n, uint32_t isa)
{
    if (!symbols_decode(&d->symbols, d->buffer, n, isa))
        return SZD_BLOCK_CODES;
    uint32_t base = (uint32_t)d->base;
    for (size_t i = 0; i < n; i++)
        out[i] = (int32_t)(base + d->buffer[i]);
    int status = d->escapes ? patch_escapes(d, out, n) : SZD_OK;
    if (status == SZD_OK && d->k)
        join_low_bits(d, out, n);
    d->position += n;
    return status;
}

int tokens_decode(token_decoder *d, int32_t *out, size_t n, uint32_t isa)
{
    int status = SZD_OK;
    for (size_t done = 0; done < n && status == SZD_OK; done += CHUNK)
        status = decode_part(d, out + done, n - done < CHUNK ? n - done : CHUNK, isa);
    return status;
}

bool tokens_finished(token_decoder *d)
{
    if (d->escapes && (d->escapes_left || end_bits(&d->escape_bits) != d->escape_bits.end || d->escape_bits.failed))
        return false;
    return symbols_finished(&d->symbols);
}
