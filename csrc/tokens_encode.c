/* Residuals to symbols, raw low bits and escapes (FORMAT.md, section 6, step 4), chunk by chunk.
 *
 * A sample says how: where one value stands out, it is coded apart, lest its raw low bits be stored as often as it
 * occurs; where there are few values far apart, they are numbered; otherwise the k low bits are raw and the high part
 * relative to `base` is one of at most 256 symbols, or an escape if it lies outside or is too rare for a place in the
 * table. */
#include "radix.h"
#include "symbols.h"

size_t tokens_scratch(size_t n)
{
    return 2 * n + 4 * n + 4 * n + 3 * n + 16 + sizeof(token_palette) + symbols_scratch(n) + 8 * 64;
}

enum { WINDOW = 256, ORDER_SAMPLE = 32, LEAST_SPREAD = 3, OTHERS_SAMPLE = 4096 };

/* By the bytes of their distance from the least, from the lowest on (radix sort); n <= OTHERS_SAMPLE. */
static void sort(int32_t *v, size_t n)
{
    uint32_t d[OTHERS_SAMPLE], other[OTHERS_SAMPLE], most = 0, *from = d, *to = other;
    int32_t least = n ? v[0] : 0;
    for (size_t i = 1; i < n; i++)
        least = v[i] < least ? v[i] : least;
    for (size_t i = 0; i < n; i++) {
        d[i] = (uint32_t)v[i] - (uint32_t)least;
        most |= d[i];
    }
    for (unsigned shift = 0; shift < 32 && most >> shift; shift += 8) {
        if (!radix_pass(from, to, n, sizeof *from, shift))
            continue;
        uint32_t *sorted = to;
        to = from;
        from = sorted;
    }
    for (size_t i = 0; i < n; i++)
        v[i] = (int32_t)(from[i] + (uint32_t)least);
}

/* Half the distance between the quartiles is about 0.67 standard deviations. While the high part still spans some 4.5
 * of these, raw bits cost a few thousandths of a bit, less than the larger table would. */
static unsigned choose_k(uint32_t deviation)
{
    unsigned k = 0;
    while (k < MAX_K && (deviation >> (k + 1)) >= LEAST_SPREAD)
        k++;
    return k;
}

/* The window of symbols 1 ... 255 is put about the sample's range where it holds that, about its centre otherwise. */
static int32_t window_base(const int32_t *sorted, size_t count, unsigned k)
{
    int64_t low = sorted[0] >> k, high = sorted[count - 1] >> k, middle = sorted[count / 2] >> k;
    if (high - low < WINDOW - 2)
        middle = low + (high - low) / 2;
    middle -= WINDOW / 2;
    return middle < INT32_MIN ? INT32_MIN : (int32_t)middle;
}

/* By quartiles, so that a few wild residuals do not move anything. */
static void place_window(token_encoder *e, const int32_t *sorted, size_t count)
{
    int64_t spread = (int64_t)sorted[count - 1 - count / 4] - sorted[count / 4];
    e->k = choose_k((uint32_t)(spread / 2));
    e->base = window_base(sorted, count, e->k);
}

typedef struct repeats {
    size_t distinct, most; /* different values; how often the commonest occurs */
    int32_t value;
} repeats;

static repeats repeats_of(const int32_t *sorted, size_t count)
{
    repeats r = {0, 0, 0};
    for (size_t i = 0, run = 0; i < count; i++) {
        run = i && sorted[i] == sorted[i - 1] ? run + 1 : 1;
        r.distinct += run == 1;
        if (run > r.most) {
            r.most = run;
            r.value = sorted[i];
        }
    }
    return r;
}

/* Only where raw bits would be wasted on it, or where it leaves many others too few of the 4096 frequencies. */
static bool stands_out(const token_encoder *e, repeats r, const int32_t *sorted, size_t count)
{
    enum { MANY_OTHERS = 16 };
    int64_t span = (int64_t)sorted[count - 1] - sorted[0];
    return r.most < count && ((e->k && r.most > count / 8) || (span > MANY_OTHERS && r.most > count - count / 8));
}

static bool few_values(const token_encoder *e, repeats r, size_t count)
{
    return e->may_number && count >= 32 && r.distinct <= count / 4;
}

void tokens_begin_encoding(token_encoder *e, const int32_t *sample, size_t count, size_t n, bool palette,
                           uint8_t *scratch)
{
    int32_t sorted[TOKEN_SAMPLE];
    memcpy(sorted, sample, count * sizeof *sorted);
    *e = (token_encoder){.form = FORM_DIRECT, .may_number = palette};
    sort(sorted, count);
    place_window(e, sorted, count);
    repeats r = repeats_of(sorted, count);
    e->dominant = stands_out(e, r, sorted, count);
    e->dominant_value = r.value;
    if (!e->dominant && e->k && few_values(e, r, count))
        e->form = FORM_PALETTE;
    e->symbols = take(&scratch, n);
    e->flags = take(&scratch, e->dominant ? n : 0);
    e->others = take(&scratch, e->dominant ? 4 * n + 4 : 0);
    e->escaped = take(&scratch, 4 * n);
    e->low = e->low_at = take(&scratch, 3 * n + 16);
    e->palette = take(&scratch, sizeof *e->palette);
    e->rest = aligned64(scratch);
    if (e->form == FORM_PALETTE)
        memset(e->palette, 0, sizeof *e->palette);
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

#define FIND_SYMBOLS(suffix, target)                                                                    \
    target static uint32_t find_symbols_##suffix(const int32_t *r, size_t n, unsigned k, uint32_t base, \
                                                 uint8_t *symbols)                                      \
    {                                                                                                   \
        return find_symbols(r, n, k, base, symbols);                                                    \
    }
FIND_SYMBOLS(scalar, )
FIND_SYMBOLS(avx2, TARGET_AVX2)
FIND_SYMBOLS(avx512, TARGET_AVX512)

static void add_direct(token_encoder *e, const int32_t *r, size_t n, uint32_t isa)
{
    uint8_t *symbols = e->symbols + e->n;
    if (PICK(isa, find_symbols)(r, n, e->k, (uint32_t)e->base, symbols))
        for (size_t i = 0; i < n; i++)
            if (!symbols[i])
                e->escaped[e->escapes++] = r[i] >> e->k;
    numbers_pack((const uint32_t *)(const void *)r, n, e->k, isa, e->low_at);
    e->low_at += numbers_bytes(n, e->k);
}

/* Values are numbered as they come; false where there are too many. */
static bool add_numbered(token_encoder *e, const int32_t *r, size_t n)
{
    token_palette *p = e->palette;
    for (size_t i = 0; i < n; i++) {
        uint32_t slot = (uint32_t)r[i] * 2654435761u >> (32 - PALETTE_HASH_BITS);
        while (p->slots[slot] && p->values[p->slots[slot] - 1] != r[i])
            slot = (slot + 1) & ((1u << PALETTE_HASH_BITS) - 1);
        if (!p->slots[slot]) {
            if (p->count == WINDOW)
                return false;
            p->values[p->count++] = r[i];
            p->slots[slot] = (uint16_t)p->count;
        }
        e->symbols[e->n + i] = (uint8_t)(p->slots[slot] - 1);
    }
    return true;
}

/* The values that are not the dominant one, after those found before. */
static void set_apart(token_encoder *e, const int32_t *r, size_t n)
{
    enum { STEP = 8 };
    uint8_t *flags = e->flags + e->flagged;
    size_t m = e->n;
    for (size_t i = 0; i < n; i++)
        flags[i] = r[i] != e->dominant_value;
    for (size_t i = 0, end; i < n; i = end) {
        end = n - i < STEP ? n : i + STEP;
        if (end - i == STEP && load_u64(flags + i) == 0)
            continue;
        for (size_t j = i; j < end; j++) {
            e->others[m] = r[j];
            m += flags[j];
        }
    }
    e->flagged += n;
    e->n = m;
}

static bool add_symbols(token_encoder *e, const int32_t *r, size_t n, uint32_t isa)
{
    if (e->form == FORM_PALETTE && !add_numbered(e, r, n))
        return false;
    if (e->form == FORM_DIRECT)
        add_direct(e, r, n, isa);
    e->n += n;
    return true;
}

/* n <= CHUNK, and whole segments but for the last */
bool tokens_add(token_encoder *e, const int32_t *r, size_t n, uint32_t isa)
{
    if (!e->dominant)
        return add_symbols(e, r, n, isa);
    set_apart(e, r, n);
    return true;
}

/* A symbol must take at least 1/4096 of the probability. If it occurs c times among n, a place in the table costs about
 * 4 bits and what it takes from the others, 1.44 (n / 4096 - c) bits; an escape costs some 7 bits more than the 12 of
 * the rarest symbol. */
static bool worth_a_place(uint32_t count, size_t n) { return (uint64_t)count * 8 > n / 2841 + 4; }

enum { DEMOTE_STEP = 256 };

INLINE bool any_outside(const uint8_t *symbols, uint8_t first, uint8_t range)
{
    uint8_t any = 0;
    for (size_t i = 0; i < DEMOTE_STEP; i++)
        any |= (uint8_t)(symbols[i] - first) > range;
    return any;
}

#define ANY_OUTSIDE(suffix, target)                                                               \
    target static bool any_outside_##suffix(const uint8_t *symbols, uint8_t first, uint8_t range) \
    {                                                                                             \
        return any_outside(symbols, first, range);                                                \
    }
ANY_OUTSIDE(scalar, )
ANY_OUTSIDE(avx2, TARGET_AVX2)
ANY_OUTSIDE(avx512, TARGET_AVX512)

/* Symbols outside [first, last] become escapes too: from the last one back, since the list grows in place. */
static void demote(token_encoder *e, unsigned first, unsigned last, size_t more, uint32_t isa)
{
    enum { STEP = DEMOTE_STEP };
    size_t old = e->escapes, to = old + more;
    e->escapes = to;
    for (size_t end = e->n, from; to > old; end = from) {
        from = end - (end % STEP ? end % STEP : STEP);
        size_t length = end - from;
        const uint8_t *part = e->symbols + from;
        bool any = length < STEP || PICK(isa, any_outside)(part, (uint8_t)first, (uint8_t)(last - first));
        for (size_t i = end; any && i-- > from;) {
            unsigned s = e->symbols[i];
            if (s - first > last - first)
                e->escaped[--to] = s ? (int32_t)((uint32_t)e->base + s) : e->escaped[--old];
        }
    }
    assert(to == old);
}

/* Rare symbols at either end of those that occur lose their places; with escapes, symbol 0, the others become its
 * neighbours: a narrow alphabet. */
static void trim(token_encoder *e, symbol_counts *c, uint32_t isa)
{
    unsigned first = 1, last = WINDOW - 1;
    size_t more = 0;
    while (first < last && !worth_a_place(c->all[first], e->n))
        more += c->all[first++];
    while (last > first && !worth_a_place(c->all[last], e->n))
        more += c->all[last--];
    if (more)
        demote(e, first, last, more, isa);
    if (e->escapes == 0)
        return;
    while (first < last && !c->all[first])
        first++;
    symbols_narrow(c, (symbol_map){(uint8_t)(first - 1), (uint8_t)(last - first + 1)});
    e->base = (int32_t)((uint32_t)e->base + first - 1);
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

uint32_t *gaps_of_positions(uint32_t *positions, size_t n)
{
    for (size_t i = n; i-- > 1;)
        positions[i] -= positions[i - 1] + 1;
    return positions;
}

void write_exp_golomb_list(const uint32_t *values, size_t n, writer *w)
{
    uint64_t costs[EXP_GOLOMB_ORDERS] = {0};
    for (size_t i = 0; i < n; i++)
        add_exp_golomb_costs(costs, values[i]);
    unsigned order = cheapest_order(costs);
    write_u8(w, order);
    write_varint(w, (costs[order] + 7) / 8);
    bit_writer b = {w, 0, 0};
    for (size_t i = 0; i < n; i++)
        put_exp_golomb(&b, values[i], order);
    flush_bits(&b);
}

/* The symbol of residual 0, or the middle one. */
static uint8_t zero_symbol(const token_encoder *e)
{
    int64_t zero = -(int64_t)e->base;
    return (uint8_t)(zero > 0 && zero < WINDOW ? zero : WINDOW / 2);
}

/* Where few symbols leave the choice, the base that short blocks need not say. */
static void place_base(token_encoder *e, symbol_counts *c)
{
    int32_t move = (int32_t)((uint32_t)e->base - (uint32_t)SHORT_BASE), first = 0, last = WINDOW - 1;
    if (e->escapes || c->n > MOST_SHORT || !move)
        return;
    while (!c->all[first])
        first++;
    while (!c->all[last])
        last--;
    if (move < -first || move > WINDOW - 1 - last)
        return;
    symbols_narrow(c, (symbol_map){(uint8_t)-move, WINDOW - 1});
    e->base = SHORT_BASE;
}

static void finish_direct(token_encoder *e, size_t width, uint32_t coder, uint32_t isa, writer *w)
{
    symbol_counts counts;
    symbols_count(&counts, e->symbols, e->n, width, zero_symbol(e), isa, e->rest);
    counts.may_be_sparse = !e->plain;
    trim(e, &counts, isa);
    place_base(e, &counts);
    write_u8(w, e->k);
    write_varint(w, zigzag(e->base));
    write_u8(w, e->escapes > 0);
    if (e->escapes)
        write_escapes(e, w);
    write_bytes(w, e->low, (size_t)(e->low_at - e->low));
    symbols_encode_counted(&counts, coder, isa, e->rest, w);
}

/* The values in rising order, the symbols renumbered. */
static void finish_palette(token_encoder *e, size_t width, uint32_t coder, uint32_t isa, writer *w)
{
    token_palette *p = e->palette;
    int32_t sorted[WINDOW];
    uint8_t place[WINDOW] = {0}, zero = 0;
    memcpy(sorted, p->values, p->count * sizeof *sorted);
    sort(sorted, p->count);
    for (unsigned j = 0; j < p->count; j++)
        for (unsigned i = 0; i < p->count; i++)
            if (p->values[i] == sorted[j])
                place[i] = (uint8_t)j;
    for (size_t i = 0; i < e->n; i++)
        e->symbols[i] = place[e->symbols[i]];
    write_u8(w, p->count - 1);
    write_varint(w, zigzag(sorted[0]));
    uint32_t steps[WINDOW];
    for (unsigned j = 1; j < p->count; j++) {
        steps[j - 1] = (uint32_t)sorted[j] - (uint32_t)sorted[j - 1] - 1;
        zero = sorted[j] <= 0 ? (uint8_t)j : zero;
    }
    if (p->count > 1)
        write_exp_golomb_list(steps, p->count - 1, w);
    symbol_counts counts;
    symbols_count(&counts, e->symbols, e->n, width, zero, isa, e->rest);
    counts.may_be_sparse = !e->plain;
    symbols_encode_counted(&counts, coder, isa, e->rest, w);
}

/* The bits, in 1/65536, that n residuals distributed as the sample take, with k raw low bits or numbered: the sample's
 * entropy and what a larger one's would be more (Miller 1955), tables and escapes. */
static uint64_t cost_of(const int32_t *sorted, size_t count, size_t n, unsigned k, bool numbered)
{
    enum { ESCAPE_BITS = 24, SYMBOL_BITS = 4, STEP_BITS = 2, MILLER = 47274 /* 65536 / (2 ln 2) */ };
    const int64_t base = numbered ? (int64_t)sorted[0] - 1 : window_base(sorted, count, k);
    const uint32_t whole = log2_q16((uint32_t)count);
    uint64_t bits = (uint64_t)count * k << 16, table = 0, used = 0;
    int64_t previous = 0;
    for (size_t i = 0, end; i < count; i = end) {
        int64_t symbol = (sorted[i] >> k) - base;
        for (end = i + 1; end < count && (sorted[end] >> k) - base == symbol;)
            end++;
        if (!numbered && (symbol < 1 || symbol >= WINDOW)) {
            bits += (uint64_t)(end - i) * (ESCAPE_BITS << 16);
            continue;
        }
        uint64_t step = (uint64_t)(symbol - previous);
        bits += (end - i) * (uint64_t)(whole - log2_q16((uint32_t)(end - i)));
        table += SYMBOL_BITS + (numbered ? STEP_BITS + bit_length(step) : used ? step - 1 : 0);
        previous = symbol;
        used++;
    }
    return bits / count * n + used * MILLER * (n - count) / count + (table << 16);
}

/* Others than a dominant value often lie on both sides of it, in two humps or more that quartiles say nothing about:
 * of the numbers of raw low bits the cheapest, or numbers where these are cheaper. */
static void place_by_cost(token_encoder *e, const int32_t *sorted, size_t count)
{
    place_window(e, sorted, count);
    const unsigned most = e->k + 2 < MAX_K ? e->k + 2 : MAX_K;
    uint64_t least = UINT64_MAX;
    for (unsigned k = 0; k <= most; k++) {
        uint64_t cost = cost_of(sorted, count, e->n, k, false);
        if (cost < least) {
            least = cost;
            e->k = k;
        }
    }
    e->base = window_base(sorted, count, e->k);
    if (few_values(e, repeats_of(sorted, count), count) && cost_of(sorted, count, e->n, 0, true) < least)
        e->form = FORM_PALETTE;
}

static bool code_others(token_encoder *e, uint32_t isa)
{
    size_t n = e->n;
    e->n = 0;
    for (size_t done = 0; done < n; done += CHUNK)
        if (!add_symbols(e, e->others + done, n - done < CHUNK ? n - done : CHUNK, isa))
            return false;
    return true;
}

/* What has been set apart is known as a whole only now. */
static void finish_others(token_encoder *e, uint32_t isa)
{
    int32_t sorted[OTHERS_SAMPLE];
    size_t n = e->n, count = n < OTHERS_SAMPLE ? n : OTHERS_SAMPLE;
    for (size_t i = 0; i < count; i++)
        sorted[i] = e->others[i * n / count];
    sort(sorted, count);
    place_by_cost(e, sorted, count);
    if (e->form == FORM_PALETTE) {
        memset(e->palette, 0, sizeof *e->palette);
        if (code_others(e, isa))
            return;
        e->form = FORM_DIRECT;
        e->n = n;
    }
    code_others(e, isa);
}

static void write_flags(const token_encoder *e, uint32_t coder, uint32_t isa, writer *w)
{
    symbol_counts counts;
    symbols_count(&counts, e->flags, e->flagged, 0, 0, isa, e->rest);
    counts.may_be_sparse = !e->plain;
    symbols_encode_counted(&counts, coder, isa, e->rest, w);
}

void tokens_finish(token_encoder *e, size_t width, uint32_t coder, uint32_t isa, writer *w)
{
    if (e->dominant) {
        write_u8(w, FORM_DOMINANT);
        write_varint(w, zigzag(e->dominant_value));
        write_varint(w, e->n);
        write_flags(e, coder, isa, w);
        width = 0;
        if (e->n)
            finish_others(e, isa);
    }
    if (e->n == 0)
        return;
    write_u8(w, e->form);
    if (e->form == FORM_PALETTE)
        finish_palette(e, width, coder, isa, w);
    else
        finish_direct(e, width, coder, isa, w);
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
    token_encoder e = {.form = FORM_DIRECT};
    size_t count = tokens_sample(residuals, n, sample);
    sort(sample, count);
    place_window(&e, sample, count);
    PICK(isa, find_symbols)(residuals, n, e.k, (uint32_t)e.base, scratch);
    histogram_u8(scratch, n, isa, counts);
    uint64_t cost = (uint64_t)n * e.k << 16;
    return cost + entropy_q16(counts, 1, WINDOW - 1, n) + ((uint64_t)counts[0] * 24 << 16);
}
