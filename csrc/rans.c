/* Interleaved rANS: 32-bit states in [2^16, 2^32), renormalised 16 bits at a time, 12-bit frequencies (FORMAT.md,
 * section 4).
 *
 * Three things surprise at first. The encoder runs backwards, so that the decoder may run forwards. It writes
 * backwards, into the end of its scratch. And symbol i belongs to lane i mod L: the lanes are independent but for
 * sharing one stream of words in the order of the symbols, which lets a processor work on many at once.
 *
 * Encoding s with frequency f and first slot c maps x to (x / f) 4096 + c + x mod f; before that, x must be below f
 * 2^20, so that the result stays below 2^32.
 */
#include "internal.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define STATE_MIN 65536u

typedef struct encoder_table {
    uint32_t f_first[256];    /* frequency << 12 | the sum of those below */
    uint64_t reciprocal[256]; /* floor(2^44 / f) */
    float inverse[256];
} encoder_table;

/* A lane costs its final state, about 25 bits beyond the information in it: at most about half a percent. */
unsigned rans_lanes_log2(uint64_t payload_bits)
{
    return payload_bits >= 200000 ? 5 : payload_bits >= 40000 ? 3 : payload_bits >= 8000 ? 1 : 0;
}

static void make_encoder(const freq_table *t, encoder_table *e)
{
    uint32_t first = 0;
    for (unsigned s = 0; s < 256; s++) {
        uint32_t f = t->f[s] ? t->f[s] : 1;
        assert(f < PROB_SUM);
        e->f_first[s] = f << PROB_BITS | (first & (PROB_SUM - 1));
        e->reciprocal[s] = ((uint64_t)1 << 44) / f;
        e->inverse[s] = 1.0f / (float)f;
        first += t->f[s];
    }
}

/* x / f by the reciprocal: since x < f 2^20 and f < 2^12, the product's error is below 1, so q is at most one too
 * small. */
static inline uint32_t encode_step(uint32_t x, const encoder_table *e, uint8_t s)
{
    uint32_t f = e->f_first[s] >> PROB_BITS, first = e->f_first[s] & (PROB_SUM - 1);
    uint32_t q = (uint32_t)((x * e->reciprocal[s]) >> 44), rest = x - q * f;
    uint32_t more = rest >= f;
    return ((q + more) << PROB_BITS) + first + rest - (more ? f : 0);
}

/* Symbols [from, to), backwards; returns where the words start. */
static uint8_t *encode_scalar(const encoder_table *e, const uint8_t *symbols, size_t from, size_t to, uint32_t *state,
                              size_t lanes, uint8_t *at)
{
    for (size_t i = to; i-- > from;) {
        uint32_t x = state[i & (lanes - 1)];
        uint32_t emit = x >= (uint64_t)(e->f_first[symbols[i]] >> PROB_BITS) << 20;
        store_u16(at - 2, (uint16_t)x); /* written always, kept only when the state must shrink */
        at -= 2 * emit;
        x >>= 16 * emit;
        state[i & (lanes - 1)] = encode_step(x, e, symbols[i]);
    }
    return at;
}

#if defined(__x86_64__)
/* encode_step for 16 lanes. The quotient is below 2^20, so that the error of a float product stays below 1 and q is off
 * by at most one, either way. The words of the lanes that must shrink are stored side by side in lane order. */
TARGET_AVX512 static inline __m512i encode_sixteen(__m512i x, const encoder_table *e, const uint8_t *symbols,
                                                   uint8_t **at)
{
    __m512i s = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)symbols));
    __m512i entry = _mm512_i32gather_epi32(s, e->f_first, 4), f = _mm512_srli_epi32(entry, PROB_BITS);
    __mmask16 emit = _mm512_cmpge_epu32_mask(x, _mm512_slli_epi32(f, 20));
    unsigned words = (unsigned)__builtin_popcount(emit);
    *at -= 2 * words;
    __m256i low = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(emit, x));
    _mm256_mask_storeu_epi16(*at, (__mmask16)((1u << words) - 1), low);
    x = _mm512_mask_srli_epi32(x, emit, x, 16);
    __m512i q = _mm512_cvttps_epu32(_mm512_mul_ps(_mm512_cvtepu32_ps(x), _mm512_i32gather_ps(s, e->inverse, 4)));
    __m512i rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(q, f)), zero = _mm512_setzero_si512(),
            one = _mm512_set1_epi32(1);
    __mmask16 over = _mm512_cmplt_epi32_mask(rest, zero);
    q = _mm512_mask_sub_epi32(q, over, q, one);
    rest = _mm512_mask_add_epi32(rest, over, rest, f);
    __mmask16 under = _mm512_cmpge_epi32_mask(rest, f);
    q = _mm512_mask_add_epi32(q, under, q, one);
    rest = _mm512_mask_sub_epi32(rest, under, rest, f);
    __m512i first = _mm512_and_si512(entry, _mm512_set1_epi32(PROB_SUM - 1));
    return _mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(q, PROB_BITS), first), rest);
}

/* encode_scalar for whole groups of 32 lanes. */
TARGET_AVX512 static uint8_t *encode_avx512(const encoder_table *e, const uint8_t *symbols, size_t groups,
                                            uint32_t *state, uint8_t *at)
{
    __m512i lower = _mm512_loadu_si512(state), upper = _mm512_loadu_si512(state + 16);
    for (size_t g = groups; g-- > 0;) {
        upper = encode_sixteen(upper, e, symbols + 32 * g + 16, &at);
        lower = encode_sixteen(lower, e, symbols + 32 * g, &at);
    }
    _mm512_storeu_si512(state, lower);
    _mm512_storeu_si512(state + 16, upper);
    return at;
}
#endif

void rans_encode(const uint8_t *symbols, size_t n, const freq_table *t, unsigned lanes_log2, uint32_t isa,
                 uint8_t *scratch, writer *w)
{
    encoder_table table;
    make_encoder(t, &table);
    uint32_t state[32];
    size_t lanes = (size_t)1 << lanes_log2, whole = 0;
    for (size_t j = 0; j < lanes; j++)
        state[j] = STATE_MIN;
    uint8_t *end = scratch + symbols_scratch(n), *at = end;
#if defined(__x86_64__)
    if (isa >= SZD_ISA_AVX512 && lanes == 32)
        whole = n & ~(size_t)31;
#endif
    (void)isa;
    at = encode_scalar(&table, symbols, whole, n, state, lanes, at);
#if defined(__x86_64__)
    if (whole)
        at = encode_avx512(&table, symbols, whole / 32, state, at);
#endif
    for (size_t j = 0; j < lanes; j++) {
        uint8_t *p = write_room(w, 4);
        if (p)
            store_u32(p, state[j]);
    }
    write_bytes(w, at, (size_t)(end - at));
}

bool rans_begin(rans_decoder *d, const freq_table *t, unsigned lanes_log2, const uint8_t *payload, size_t size)
{
    d->lanes = 1u << lanes_log2;
    d->lane = 0;
    if (size < 4u * d->lanes)
        return false;
    for (unsigned j = 0; j < d->lanes; j++) {
        d->state[j] = load_u32(payload + 4 * j);
        if (d->state[j] < STATE_MIN)
            return false;
    }
    d->at = payload + 4 * d->lanes;
    d->end = payload + size;
    uint32_t slot = 0;
    for (unsigned s = t->lo; s <= t->hi; s++)
        for (uint32_t i = 0; i < t->f[s]; i++)
            d->table[slot++] = (uint32_t)s << 24 | (uint32_t)t->f[s] << 12 | i;
    assert(slot == PROB_SUM);
    return true;
}

/* One symbol a time with every check: the start and the end of a run. */
static bool decode_checked(rans_decoder *d, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t x = d->state[d->lane], e = d->table[x & (PROB_SUM - 1)];
        out[i] = (uint8_t)(e >> 24);
        x = (e >> 12 & 0xfff) * (x >> PROB_BITS) + (e & 0xfff);
        if (x < STATE_MIN) {
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

/* Whole groups of lanes, while the words left are enough for any group. Branch-free: whether a state needs a word is as
 * good as random. Returns the symbols done. */
static size_t decode_groups(rans_decoder *d, uint8_t *out, size_t n)
{
    const uint8_t *at = d->at;
    size_t lanes = d->lanes, done = 0;
    for (; n - done >= lanes && (size_t)(d->end - at) >= 2 * lanes; done += lanes)
        for (size_t j = 0; j < lanes; j++) {
            uint32_t x = d->state[j], e = d->table[x & (PROB_SUM - 1)];
            out[done + j] = (uint8_t)(e >> 24);
            x = (e >> 12 & 0xfff) * (x >> PROB_BITS) + (e & 0xfff);
            uint32_t more = x < STATE_MIN;
            uint32_t refilled = x << 16 | load_u16(at);
            x = more ? refilled : x;
            at += 2 * more;
            d->state[j] = x;
        }
    d->at = at;
    return done;
}

#if defined(__x86_64__)
/* decode_groups for 32 lanes in two vectors: gathered table entries, words handed to the lanes that need them in lane
 * order. */
#define RANS_HALF(x, out_bytes)                                                                                       \
    do {                                                                                                              \
        __m512i e = _mm512_i32gather_epi32(_mm512_and_si512(x, slot_mask), d->table, 4);                              \
        _mm_storeu_si128((__m128i *)(void *)(out_bytes), _mm512_cvtepi32_epi8(_mm512_srli_epi32(e, 24)));             \
        __m512i f = _mm512_and_si512(_mm512_srli_epi32(e, 12), slot_mask);                                            \
        x = _mm512_add_epi32(_mm512_mullo_epi32(f, _mm512_srli_epi32(x, PROB_BITS)), _mm512_and_si512(e, slot_mask)); \
        __mmask16 more = _mm512_cmplt_epu32_mask(x, state_min);                                                       \
        __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)at));                 \
        words = _mm512_maskz_expand_epi32(more, words);                                                               \
        x = _mm512_mask_or_epi32(x, more, _mm512_slli_epi32(x, 16), words);                                           \
        at += 2 * (size_t)__builtin_popcount(more);                                                                   \
    } while (0)

TARGET_AVX512 static size_t decode_groups_avx512(rans_decoder *d, uint8_t *out, size_t n)
{
    const uint8_t *at = d->at;
    const __m512i slot_mask = _mm512_set1_epi32(PROB_SUM - 1), state_min = _mm512_set1_epi32((int)STATE_MIN);
    __m512i lower = _mm512_loadu_si512(d->state), upper = _mm512_loadu_si512(d->state + 16);
    size_t done = 0;
    for (; n - done >= 32 && d->end - at >= 64; done += 32) {
        RANS_HALF(lower, out + done);
        RANS_HALF(upper, out + done + 16);
    }
    _mm512_storeu_si512(d->state, lower);
    _mm512_storeu_si512(d->state + 16, upper);
    d->at = at;
    return done;
}
#endif

bool rans_decode(rans_decoder *d, uint8_t *out, size_t n, uint32_t isa)
{
    size_t head = (d->lanes - d->lane) & (d->lanes - 1);
    head = head < n ? head : n;
    if (!decode_checked(d, out, head))
        return false;
    out += head;
    n -= head;
    size_t done = 0;
    if (d->lane == 0) {
#if defined(__x86_64__)
        if (isa >= SZD_ISA_AVX512 && d->lanes == 32)
            done = decode_groups_avx512(d, out, n);
        else
#endif
            done = decode_groups(d, out, n);
    }
    (void)isa;
    return decode_checked(d, out + done, n - done);
}

bool rans_finished(const rans_decoder *d)
{
    for (unsigned j = 0; j < d->lanes; j++)
        if (d->state[j] != STATE_MIN)
            return false;
    return d->at == d->end;
}
