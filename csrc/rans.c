/* Interleaved rANS: 32-bit states in [2^16, 2^32), renormalised 16 bits at a time, 12-bit frequencies (FORMAT.md,
 * section 4).
 *
 * Three things surprise at first. The encoder runs backwards, so that the decoder may run forwards. It writes
 * backwards, into the end of its scratch. And symbol i belongs to lane i mod L: the lanes are independent but for
 * sharing one stream of words in the order of the symbols, which lets a processor work on many at once.
 *
 * A stream is a row of segments, each with a table of its own; states and words run on from one to the next.
 *
 * Encoding s with frequency f and first slot c maps x to (x / f) 4096 + c + x mod f; before that, x must be below f
 * 2^20, so that the result stays below 2^32.
 */
#include "rans.h"

/* A lane costs its final state, about 20 bits beyond the information in it: at most a fifth of a percent. */
unsigned rans_lanes_log2(uint64_t payload_bits)
{
    static const uint64_t least[RANS_LANES_LOG2] = {12000, 30000, 50000, 80000, 200000, 700000};
    unsigned log2 = 0;
    while (log2 < RANS_LANES_LOG2 && payload_bits >= least[log2])
        log2++;
    return log2;
}

/* The tables of what is coded, then by the symbols that stand for it. Where 0 is not coded, none is mapped to it. */
static void make_encoder(const freq_table *t, symbol_map map, rans_encode_table *e)
{
    uint32_t first = 0, slots[256] = {0};
    uint64_t reciprocal[256] = {0};
    e->words_are_rare = rans_words_are_rare(t);
    e->span = t->hi - t->lo + 1u;
    e->narrow_map = (symbol_map){(uint8_t)(map.shift + t->lo), t->lo ? 255 : map.range};
    memset(e->f, 0, sizeof e->f);
    for (unsigned s = t->lo; s <= t->hi; s++) {
        uint32_t f = t->f[s];
        assert(f < PROB_SUM);
        slots[s] = f << PROB_BITS | (first & (PROB_SUM - 1));
        reciprocal[s] = f ? (((uint64_t)1 << 44) + f - 1) / f : 0;
        if (e->span <= RANS_NARROW) {
            e->f[s - t->lo] = (uint16_t)f;
            e->first[s - t->lo] = (uint16_t)first;
        }
        first += f;
    }
    for (unsigned s = 0; s < 256; s++) {
        e->slots[s] = slots[mapped(map, s)];
        e->reciprocal[s] = reciprocal[mapped(map, s)];
    }
}

/* Symbols [from, to), backwards; returns where the words start. The quotient is exact: with m = ceil(2^44 / f), m f -
 * 2^44 is below f <= 2^12, and x times it below 2^44; x < f 2^20 keeps the product below 2^64. Branch-free, since
 * whether a state must shrink is as good as random. */
static uint8_t *encode_singly(const rans_encode_table *e, const uint8_t *symbols, size_t from, size_t to,
                              uint32_t *state, size_t lane, size_t lanes, uint8_t *at)
{
    for (size_t i = to; i-- > from;) {
        uint32_t slots = e->slots[symbols[i]], f = slots >> PROB_BITS, x = state[(lane + i) & (lanes - 1)];
        uint32_t emit = x >= f << 20;
        store_u16(at - 2, (uint16_t)x); /* written always, kept only when the state must shrink */
        at -= 2 * emit;
        x >>= 16 * emit;
        uint32_t q = (uint32_t)((x * e->reciprocal[symbols[i]]) >> 44);
        state[(lane + i) & (lanes - 1)] = x + q * (PROB_SUM - f) + (slots & (PROB_SUM - 1));
    }
    return at;
}

/* Whole groups of lanes. */
static uint8_t *encode_groups(const rans_encode_table *e, const uint8_t *symbols, size_t groups, uint32_t *state,
                              size_t lanes, uint32_t isa, uint8_t *at)
{
#if defined(__x86_64__)
    if (isa >= SZD_ISA_AVX512 && lanes > 16 &&
        e->span <= RANS_NARROW) /* one vector of 16 lanes would wait for itself */
        return rans_encode_groups_avx512(e, symbols, groups, state, lanes, at);
    if (isa >= SZD_ISA_AVX2 && lanes >= 16)
        return rans_encode_groups_avx2(e, symbols, groups, state, lanes, at);
#endif
    (void)isa;
    return rans_encode_groups(e, symbols, groups, state, lanes, at);
}

/* One segment, whose first symbol is in lane `lane`. */
static uint8_t *encode_segment(const rans_encode_table *e, const uint8_t *symbols, size_t n, uint32_t *state,
                               size_t lane, size_t lanes, uint32_t isa, uint8_t *at)
{
    size_t head = (lanes - lane) & (lanes - 1), groups = n > head ? (n - head) / lanes : 0;
    size_t end = groups ? head + groups * lanes : 0;
    at = encode_singly(e, symbols, end, n, state, lane, lanes, at);
    if (groups) {
        at = encode_groups(e, symbols + head, groups, state, lanes, isa, at);
        at = encode_singly(e, symbols, 0, head, state, lane, lanes, at);
    }
    return at;
}

static size_t states_bytes(const uint32_t *state, size_t lanes)
{
    size_t bits = 0;
    for (size_t j = 0; j < lanes; j++)
        bits += 4 + bit_length(state[j]) - 1;
    return (bits + 7) / 8;
}

/* A state is uniform in its logarithm: its bit length, then the bits below the leading one. */
static void write_states(const uint32_t *state, size_t lanes, writer *w)
{
    bit_writer b = {w, 0, 0};
    for (size_t j = 0; j < lanes; j++) {
        unsigned below = bit_length(state[j]) - 1;
        put_bits(&b, below - 16, 4);
        put_bits(&b, state[j] & ((1u << below) - 1), below);
    }
    flush_bits(&b);
}

void rans_encode(const rans_segment *segments, size_t count, unsigned lanes_log2, const uint8_t *carry, uint32_t isa,
                 uint8_t *scratch, size_t scratch_size, writer *w)
{
    rans_encode_table table;
    uint32_t state[1 << RANS_LANES_LOG2];
    size_t lanes = (size_t)1 << lanes_log2, n = 0;
    for (size_t j = 0; j < lanes; j++)
        state[j] = RANS_STATE_MIN + (carry ? load_u16(carry + 2 * j) : 0u);
    for (size_t k = 0; k < count; k++)
        n += segments[k].n;
    uint8_t *end = scratch + scratch_size, *at = end;
    for (size_t k = count; k-- > 0;) {
        n -= segments[k].n;
        make_encoder(segments[k].table, segments[k].map, &table);
        at = encode_segment(&table, segments[k].symbols, segments[k].n, state, n & (lanes - 1), lanes, isa, at);
    }
    write_varint(w, states_bytes(state, lanes) + (size_t)(end - at));
    write_states(state, lanes, w);
    write_bytes(w, at, (size_t)(end - at));
}

bool rans_begin(rans_decoder *d, unsigned lanes_log2, const uint8_t *payload, size_t size)
{
    d->lanes = 1u << lanes_log2;
    d->lane = 0;
    bit_reader b = {payload, payload + size, 0, 0, false};
    for (unsigned j = 0; j < d->lanes; j++) {
        unsigned below = (unsigned)get_bits(&b, 4) + 16;
        d->state[j] = 1u << below | (uint32_t)get_bits(&b, below);
    }
    d->at = end_bits(&b);
    d->end = payload + size;
    return !b.failed;
}

/* Entries are stored four at a time; those beyond a symbol's last are the next one's first or in the margin. */
void rans_use(rans_decoder *d, const freq_table *t)
{
    uint32_t slot = 0, *table = d->entries + RANS_MARGIN;
    for (unsigned s = t->lo; s <= t->hi; s++) {
        const uint32_t f = t->f[s], step = 1u << 20;
        uint32_t four[4] = {f << 8 | s, (f << 8 | s) + step, (f << 8 | s) + 2 * step, (f << 8 | s) + 3 * step};
        for (uint32_t i = 0; i < f; i += 4) {
            memcpy(table + slot + i, four, sizeof four);
            for (unsigned k = 0; k < 4; k++)
                four[k] += 4 * step;
        }
        slot += f;
    }
    assert(slot == PROB_SUM);
    d->words_are_rare = rans_words_are_rare(t);
}

/* One symbol a time with every check: the start and the end of a run. */
static bool decode_singly(rans_decoder *d, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t x = d->state[d->lane], e = rans_table(d)[x & (PROB_SUM - 1)];
        out[i] = (uint8_t)e;
        x = (e >> 8 & 0xfff) * (x >> PROB_BITS) + (e >> 20);
        if (x < RANS_STATE_MIN) {
            if (d->end - d->at < 2)
                return false;
            x = x << 16 | load_u16(d->at);
            d->at += 2;
        }
        d->state[d->lane] = x;
        d->lane = (d->lane + 1) & (d->lanes - 1);
    }
    return true;
}

bool rans_decode(rans_decoder *d, uint8_t *out, size_t n, uint32_t isa)
{
    size_t head = (d->lanes - d->lane) & (d->lanes - 1);
    head = head < n ? head : n;
    if (!decode_singly(d, out, head))
        return false;
    out += head;
    n -= head;
    size_t done = 0;
    if (d->lane == 0) {
#if defined(__x86_64__)
        if (isa >= SZD_ISA_AVX512 && d->lanes > 16)
            done = rans_decode_groups_avx512(d, out, n);
        else if (isa >= SZD_ISA_AVX2 && d->lanes >= 16)
            done = rans_decode_groups_avx2(d, out, n);
        else
#endif
            done = rans_decode_groups(d, out, n);
    }
    (void)isa;
    return decode_singly(d, out + done, n - done);
}

bool rans_carried(const rans_decoder *d, uint8_t *carry)
{
    for (unsigned j = 0; j < d->lanes; j++) {
        if (d->state[j] >= 2 * RANS_STATE_MIN)
            return false;
        store_u16(carry + 2 * j, (uint16_t)d->state[j]);
    }
    return d->at == d->end;
}

bool rans_finished(const rans_decoder *d)
{
    for (unsigned j = 0; j < d->lanes; j++)
        if (d->state[j] != RANS_STATE_MIN)
            return false;
    return d->at == d->end;
}
