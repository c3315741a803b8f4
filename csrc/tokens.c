/* Residuals as symbols (FORMAT.md, section 6, step 4): the k low bits raw, the high part relative to `base` as one of
 * at most 256 symbols, what lies outside or is too rare for a place in the table as an escape. */
#include "classes.h"

enum { WINDOW = 256, MAX_K = 24, ORDER_SAMPLE = 32 };

size_t tokens_scratch(size_t n) { return n + 4 * n + 3 * n + 16 + symbols_scratch(n) + 5 * 64; }

/* The value with half the sample at or below it, by fixing its bits from the highest down. */
static uint32_t median_u32(const uint32_t *sample, size_t n)
{
    uint32_t value = 0;
    for (int bit = 31; bit >= 0; bit--) {
        uint32_t candidate = value | 1u << bit, below = 0;
        for (size_t i = 0; i < n; i++)
            below += sample[i] < candidate;
        value = below <= n / 2 ? candidate : value;
    }
    return value;
}

typedef struct sample_shape {
    int32_t centre, least, most;
    uint32_t deviation;
} sample_shape;

/* Centre and spread by medians, so that a few wild residuals do not move them. */
static sample_shape shape_of(const int32_t *r, size_t n)
{
    uint32_t sample[TOKEN_SAMPLE];
    sample_shape s = {0, INT32_MAX, INT32_MIN, 0};
    for (size_t i = 0; i < n; i++) {
        sample[i] = (uint32_t)r[i] ^ 0x80000000u;
        s.least = r[i] < s.least ? r[i] : s.least;
        s.most = r[i] > s.most ? r[i] : s.most;
    }
    uint32_t middle = median_u32(sample, n);
    for (size_t i = 0; i < n; i++)
        sample[i] = sample[i] < middle ? middle - sample[i] : sample[i] - middle;
    s.centre = (int32_t)(middle ^ 0x80000000u);
    s.deviation = median_u32(sample, n);
    return s;
}

/* The median deviation is about 0.67 standard deviations. Raw bits cost nothing measurable while the high part still
 * spans some eight. */
static unsigned choose_k(uint32_t deviation)
{
    uint32_t least = 3;
    unsigned k = 0;
    while (k < MAX_K && (deviation >> (k + 1)) >= least)
        k++;
    return k;
}

/* The window of symbols 1 ... 255 is put about the sample's range where it holds that, about its centre otherwise. */
void tokens_begin_encoding(token_encoder *e, const int32_t *sample, size_t count, size_t n, uint8_t *scratch)
{
    sample_shape s = shape_of(sample, count);
    e->k = choose_k(s.deviation);
    int64_t low = s.least >> e->k, high = s.most >> e->k, middle = s.centre >> e->k;
    if (high - low < WINDOW - 2)
        middle = low + (high - low) / 2;
    middle -= WINDOW / 2;
    e->base = middle < INT32_MIN ? INT32_MIN : (int32_t)middle;
    e->n = e->escapes = 0;
    e->symbols = take(&scratch, n);
    e->escaped = take(&scratch, 4 * n);
    e->low = e->low_at = take(&scratch, 3 * n + 16);
    e->rest = aligned64(scratch);
    e->bits = 0;
    e->have = 0;
}

/* Whether any is an escape. Modulo 2^32, as the decoder's sum of base and symbol is. */
INLINE uint32_t find_symbols(const int32_t *r, size_t n, unsigned k, uint32_t base, uint8_t *symbols)
{
    uint32_t any = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t s = (uint32_t)(r[i] >> k) - base, outside = s - 1 >= WINDOW - 1;
        symbols[i] = (uint8_t)(outside ? 0 : s);
        any |= outside;
    }
    return any;
}

static uint32_t find_symbols_scalar(const int32_t *r, size_t n, unsigned k, uint32_t base, uint8_t *symbols)
{
    return find_symbols(r, n, k, base, symbols);
}
TARGET_AVX2 static uint32_t find_symbols_avx2(const int32_t *r, size_t n, unsigned k, uint32_t base, uint8_t *symbols)
{
    return find_symbols(r, n, k, base, symbols);
}
TARGET_AVX512 static uint32_t find_symbols_avx512(const int32_t *r, size_t n, unsigned k, uint32_t base,
                                                  uint8_t *symbols)
{
    return find_symbols(r, n, k, base, symbols);
}

static void add_low_bits(token_encoder *e, const int32_t *r, size_t n)
{
    uint64_t bits = e->bits;
    unsigned have = e->have, k = e->k;
    uint32_t mask = (1u << k) - 1;
    for (size_t i = 0; i < n; i++) {
        bits |= (uint64_t)((uint32_t)r[i] & mask) << have;
        have += k;
        if (have >= 32) {
            store_u32(e->low_at, (uint32_t)bits);
            e->low_at += 4;
            bits >>= 32;
            have -= 32;
        }
    }
    e->bits = bits;
    e->have = have;
}

void tokens_add(token_encoder *e, const int32_t *r, size_t n, uint32_t isa)
{
    uint8_t *symbols = e->symbols + e->n;
    if (PICK(isa, find_symbols)(r, n, e->k, (uint32_t)e->base, symbols))
        for (size_t i = 0; i < n; i++)
            if (!symbols[i])
                e->escaped[e->escapes++] = r[i] >> e->k;
    if (e->k)
        add_low_bits(e, r, n);
    e->n += n;
}

/* A symbol must take at least 1/4096 of the probability. If it occurs c times among n, a place in the table costs about
 * 4 bits and what it takes from the others, 1.44 (n / 4096 - c) bits; an escape costs some 7 bits more than the 12 of
 * the rarest symbol. */
static bool worth_a_place(uint32_t count, size_t n) { return (uint64_t)count * 8 > n / 2841 + 4; }

/* Symbols outside [first, last] become escapes too: from the last one back, since the list grows in place. */
static void demote(token_encoder *e, unsigned first, unsigned last, size_t more)
{
    enum { STEP = 64 };
    size_t old = e->escapes, to = old + more;
    e->escapes = to;
    for (size_t end = e->n; to > old; end -= end % STEP ? end % STEP : STEP) {
        size_t from = end - (end % STEP ? end % STEP : STEP);
        uint8_t any = 0;
        for (size_t i = from; i < end; i++)
            any |= (uint8_t)(e->symbols[i] - first) > last - first;
        for (size_t i = end; any && i-- > from;) {
            unsigned s = e->symbols[i];
            if (s - first <= last - first)
                continue;
            e->escaped[--to] = s ? (int32_t)((uint32_t)e->base + s) : e->escaped[--old];
            e->symbols[i] = 0;
        }
    }
    assert(to == old);
}

/* Rare symbols at either end of those that occur lose their places. */
static void trim(token_encoder *e, symbol_counts *c)
{
    unsigned first = 1, last = WINDOW - 1;
    size_t more = 0;
    while (first < last && !worth_a_place(c->all[first], e->n))
        more += c->all[first++];
    while (last > first && !worth_a_place(c->all[last], e->n))
        more += c->all[last--];
    if (!more)
        return;
    demote(e, first, last, more);
    symbols_demote(c, first, last);
}

static void write_escapes(const token_encoder *e, writer *w)
{
    uint64_t costs[EXP_GOLOMB_ORDERS] = {0}, bits = 0;
    for (size_t i = 0; i < e->escapes && i < ORDER_SAMPLE; i++)
        add_exp_golomb_costs(costs, zigzag(e->escaped[i]));
    unsigned order = cheapest_order(costs);
    for (size_t i = 0; i < e->escapes; i++)
        bits += exp_golomb_bits(zigzag(e->escaped[i]), order);
    write_varint(w, e->escapes);
    write_u8(w, order);
    write_varint(w, (bits + 7) / 8);
    bit_writer b = {w, 0, 0};
    for (size_t i = 0; i < e->escapes; i++)
        put_exp_golomb(&b, zigzag(e->escaped[i]), order);
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

/* The symbol of residual 0, or the middle one. */
static uint8_t zero_symbol(const token_encoder *e)
{
    int64_t zero = -(int64_t)e->base;
    return (uint8_t)(zero > 0 && zero < WINDOW ? zero : WINDOW / 2);
}

void tokens_finish(token_encoder *e, size_t width, uint32_t coder, uint32_t isa, writer *w)
{
    symbol_counts counts;
    symbols_count(&counts, e->symbols, e->n, width, zero_symbol(e), isa, e->rest);
    trim(e, &counts);
    write_u8(w, e->k);
    write_varint(w, zigzag(e->base));
    write_u8(w, e->escapes > 0);
    if (e->escapes)
        write_escapes(e, w);
    store_u64(e->low_at, e->bits);
    write_bytes(w, e->low, (e->n * e->k + 7) / 8);
    symbols_encode_counted(&counts, coder, isa, e->rest, w);
}

size_t tokens_sample(const int32_t *r, size_t n, int32_t sample[TOKEN_SAMPLE])
{
    size_t count = n < TOKEN_SAMPLE ? n : TOKEN_SAMPLE;
    for (size_t i = 0; i < count; i++)
        sample[i] = r[i * n / count];
    return count;
}

/* The order-0 entropy in 1/65536 bit of all n, tables not counted; escapes at 24 bits each. */
uint64_t tokens_estimate(const int32_t *residuals, size_t n, uint32_t isa, uint8_t *scratch)
{
    int32_t sample[TOKEN_SAMPLE];
    uint32_t counts[WINDOW];
    token_encoder e;
    tokens_begin_encoding(&e, sample, tokens_sample(residuals, n, sample), n, scratch);
    PICK(isa, find_symbols)(residuals, n, e.k, (uint32_t)e.base, e.symbols);
    histogram_u8(e.symbols, n, counts);
    uint64_t whole = log2_q16((uint32_t)n), cost = (uint64_t)n * e.k << 16;
    for (unsigned s = 1; s < WINDOW; s++)
        if (counts[s])
            cost += counts[s] * (uint64_t)(whole - log2_q16(counts[s]));
    return cost + ((uint64_t)counts[0] * 24 << 16);
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

int tokens_begin(token_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *scratch)
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
    return symbols_begin(&d->symbols, r, n, isa, scratch);
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
