/* rANS with 16 lanes in a vector. Bit-identical to the scalar loops in rans.c. */
#include "rans_lookup.h"
#if defined(__x86_64__)
#include <immintrin.h>

#define VECTORS (1 << RANS_LANES_LOG2) / 16

/* The encoder's tables of a narrow alphabet, in registers; those of dwords for at most 32 symbols. */
typedef struct narrow_table {
    __m256i shift, range;
    __m512i f[4], first[4]; /* words of 32 symbols each */
    __m512i slots0, slots1;
    __m512 inverse0, inverse1;
} narrow_table;

/* What 32 symbols do to the states of 32 lanes: [0] those of the even lanes, [1] those of the odd ones. */
typedef struct lane_steps {
    __m512i limit[2], f[2], first[2]; /* limit: f << 20 */
    __m512 inverse[2];
} lane_steps;

/* Of numbers in the even lanes' dwords and in the odd lanes', a word each, side by side. */
TARGET_AVX512 INLINE __m512i interleaved(__m512i even, __m512i odd_above)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaa, even, odd_above);
}

/* 1 / f, shortened by 2^-22 of itself, with f = 1 too. */
static void make_inverses(const rans_encode_table *e, float inverse[32])
{
    for (unsigned s = 0; s < 32; s++)
        inverse[s] = e->f[s] ? (1.0f - 0x1p-22f) / (float)e->f[s] : 0;
}

/* The same by a reciprocal of 14 bits and one of Newton's steps, shortened by 2^-21. */
TARGET_AVX512 INLINE __m512 inverse_of(__m512i f)
{
    __m512 ff = _mm512_cvtepu32_ps(f), guess = _mm512_rcp14_ps(ff);
    return _mm512_mul_ps(guess, _mm512_fnmadd_ps(ff, guess, _mm512_set1_ps(2.0f - 0x1p-21f)));
}

/* Of each symbol the word in a table for so many. */
TARGET_AVX512 INLINE __m512i words_of(const __m512i table[4], __m512i s, unsigned symbols)
{
    __m512i word = _mm512_permutex2var_epi16(table[0], s, table[1]);
    if (symbols <= RANS_MORE)
        return word;
    __mmask32 above = _mm512_test_epi16_mask(s, _mm512_set1_epi16(RANS_MORE));
    return _mm512_mask_mov_epi16(word, above, _mm512_permutex2var_epi16(table[2], s, table[3]));
}

/* span: RANS_FEW, RANS_MORE or RANS_NARROW. */
TARGET_AVX512 INLINE lane_steps look_up_steps(const narrow_table *t, const uint8_t *symbols, unsigned span)
{
    const __m512i low20 = _mm512_set1_epi32((1 << 20) - 1), low16 = _mm512_set1_epi32(0xffff);
    __m256i d = _mm256_sub_epi8(_mm256_loadu_si256((const __m256i *)(const void *)symbols), t->shift);
    __m512i s = _mm512_cvtepu8_epi16(_mm256_maskz_mov_epi8(_mm256_cmple_epu8_mask(d, t->range), d));
    lane_steps steps;
    if (span == RANS_FEW) {
        for (unsigned v = 0; v < 2; v++) { /* of an index, permutations take the lowest bits only */
            __m512i index = v ? _mm512_srli_epi32(s, 16) : s;
            __m512i slots = _mm512_permutex2var_epi32(t->slots0, index, t->slots1);
            steps.limit[v] = _mm512_andnot_si512(low20, slots);
            steps.f[v] = _mm512_srli_epi32(slots, 20);
            steps.first[v] = _mm512_and_si512(slots, low20);
            steps.inverse[v] = _mm512_permutex2var_ps(t->inverse0, index, t->inverse1);
        }
        return steps;
    }
    __m512i f = words_of(t->f, s, span), first = words_of(t->first, s, span);
    for (unsigned v = 0; v < 2; v++) {
        steps.f[v] = v ? _mm512_srli_epi32(f, 16) : _mm512_and_si512(f, low16);
        steps.first[v] = v ? _mm512_srli_epi32(first, 16) : _mm512_and_si512(first, low16);
        steps.limit[v] = _mm512_slli_epi32(steps.f[v], 20);
        steps.inverse[v] = inverse_of(steps.f[v]);
    }
    return steps;
}

/* Stores the low halves of the states that must shrink side by side, in the order of the lanes, below *at, and what
 * happens to be there below those: the scratch has room for a word a symbol, hence for 32 more. */
TARGET_AVX512 INLINE void shed(const lane_steps *steps, __m512i x[2], uint8_t **at)
{
    const __m512i lanes = _mm512_set_epi16(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13,
                                           12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __mmask16 even = _mm512_cmpge_epu32_mask(x[0], steps->limit[0]),
                    odd = _mm512_cmpge_epu32_mask(x[1], steps->limit[1]);
    const __mmask32 emit = _pdep_u32(even, 0x55555555) | _pdep_u32(odd, 0xaaaaaaaa);
    __m512i words = _mm512_maskz_compress_epi16(emit, interleaved(x[0], _mm512_slli_epi32(x[1], 16)));
    unsigned count = (unsigned)__builtin_popcount(emit);
    words = _mm512_permutexvar_epi16(_mm512_add_epi16(lanes, _mm512_set1_epi16((short)count)), words); /* to the end */
    _mm512_storeu_si512(*at - 64, words);
    *at -= 2 * (size_t)count;
    x[0] = _mm512_mask_srli_epi32(x[0], even, x[0], 16);
    x[1] = _mm512_mask_srli_epi32(x[1], odd, x[1], 16);
}

/* x -> (x / f) 4096 + first + x mod f. The quotient is below 2^20; in floats, shortened, it is the true one or one
 * less: x loses at most 2^-24 of itself in the conversion, the reciprocal (rounded, or by one of Newton's steps) and
 * the product less than what it was shortened by. */
TARGET_AVX512 INLINE __m512i push(__m512i x, __m512i f, __m512i first, __m512 inverse)
{
    const __m512i sum = _mm512_set1_epi32(PROB_SUM);
    __m512i q = _mm512_cvttps_epu32(_mm512_mul_ps(_mm512_cvtepu32_ps(x), inverse));
    __m512i rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(q, f));
    __mmask16 under = _mm512_cmpge_epu32_mask(rest, f);
    x = _mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(q, PROB_BITS), first), rest);
    return _mm512_mask_add_epi32(x, under, x, _mm512_sub_epi32(sum, f));
}

TARGET_AVX512 INLINE __m512i slots_of(__m256i f, __m256i first)
{
    return _mm512_or_si512(_mm512_slli_epi32(_mm512_cvtepu16_epi32(f), 20), _mm512_cvtepu16_epi32(first));
}

/* 0, 2, ... 30 or 1, 3, ... 31. */
TARGET_AVX512 INLINE __m512i every_other(unsigned from)
{
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    return _mm512_add_epi32(even, _mm512_set1_epi32((int)from));
}

TARGET_AVX512 INLINE uint8_t *encode_groups(const rans_encode_table *e, const uint8_t *symbols, size_t groups,
                                            uint32_t *state, size_t pairs, unsigned span, uint8_t *at)
{
    float inverse[32];
    __m512i x[VECTORS / 2][2];
    narrow_table t = {.shift = _mm256_set1_epi8((char)e->narrow_map.shift),
                      .range = _mm256_set1_epi8((char)e->narrow_map.range)};
    make_inverses(e, inverse);
    for (unsigned i = 0; i < 4; i++) {
        t.f[i] = _mm512_loadu_si512(e->f + 32 * i);
        t.first[i] = _mm512_loadu_si512(e->first + 32 * i);
    }
    t.slots0 = slots_of(_mm512_castsi512_si256(t.f[0]), _mm512_castsi512_si256(t.first[0]));
    t.slots1 = slots_of(_mm512_extracti64x4_epi64(t.f[0], 1), _mm512_extracti64x4_epi64(t.first[0], 1));
    t.inverse0 = _mm512_loadu_ps(inverse);
    t.inverse1 = _mm512_loadu_ps(inverse + 16);
    for (size_t p = 0; p < pairs; p++)
        for (unsigned v = 0; v < 2; v++)
            x[p][v] = _mm512_i32gather_epi32(every_other(v), state + 32 * p, 4);
    for (size_t g = groups; g-- > 0;)
        for (size_t p = pairs; p-- > 0;) {
            lane_steps steps = look_up_steps(&t, symbols + 32 * (pairs * g + p), span);
            shed(&steps, x[p], &at);
            for (unsigned v = 0; v < 2; v++)
                x[p][v] = push(x[p][v], steps.f[v], steps.first[v], steps.inverse[v]);
        }
    for (size_t p = 0; p < pairs; p++)
        for (unsigned v = 0; v < 2; v++)
            _mm512_i32scatter_epi32(state + 32 * p, every_other(v), x[p][v], 4);
    return at;
}

TARGET_AVX512 INLINE uint8_t *encode_span(const rans_encode_table *e, const uint8_t *symbols, size_t groups,
                                          uint32_t *state, size_t pairs, uint8_t *at)
{
    if (e->span <= RANS_FEW)
        return encode_groups(e, symbols, groups, state, pairs, RANS_FEW, at);
    if (e->span <= RANS_MORE)
        return encode_groups(e, symbols, groups, state, pairs, RANS_MORE, at);
    return encode_groups(e, symbols, groups, state, pairs, RANS_NARROW, at);
}

TARGET_AVX512 uint8_t *rans_encode_groups_avx512(const rans_encode_table *e, const uint8_t *symbols, size_t groups,
                                                 uint32_t *state, size_t lanes, uint8_t *at)
{
    if (lanes == 64) /* as a constant: the vectors stay in registers */
        return encode_span(e, symbols, groups, state, 2, at);
    return encode_span(e, symbols, groups, state, 1, at);
}

/* table[slot] for 16 lanes. */
TARGET_AVX512 INLINE __m512i look_up(const uint32_t *table, __m512i slot)
{
    __m256i low = look_up_eight(table, _mm512_castsi512_si256(slot)),
            up = look_up_eight(table, _mm512_extracti64x4_epi64(slot, 1));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), up, 1);
}

/* The states of 16 lanes after table entries e: words are handed to those that need one in lane order. */
TARGET_AVX512 INLINE __m512i pull(__m512i x, __m512i e, const uint8_t **at)
{
    __m512i f = _mm512_and_si512(_mm512_srli_epi32(e, 8), _mm512_set1_epi32(PROB_SUM - 1));
    x = _mm512_add_epi32(_mm512_mullo_epi32(f, _mm512_srli_epi32(x, PROB_BITS)), _mm512_srli_epi32(e, 20));
    __mmask16 more = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(RANS_STATE_MIN));
    __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)*at));
    *at += 2 * (size_t)__builtin_popcount(more);
    x = _mm512_mask_slli_epi32(x, more, x, 16);
    return _mm512_or_si512(x, _mm512_maskz_expand_epi32(more, words));
}

TARGET_AVX512 INLINE size_t decode_groups(rans_decoder *d, uint8_t *out, size_t n, size_t vectors)
{
    const uint8_t *at = d->at;
    __m512i x[VECTORS];
    size_t done = 0, lanes = 16 * vectors;
    for (size_t v = 0; v < vectors; v++)
        x[v] = _mm512_loadu_si512(d->state + 16 * v);
    for (; n - done >= lanes && (size_t)(d->end - at) >= 2 * lanes; done += lanes)
        for (size_t v = 0; v < vectors; v++) {
            __m512i e = look_up(rans_table(d), _mm512_and_si512(x[v], _mm512_set1_epi32(PROB_SUM - 1)));
            _mm_storeu_si128((__m128i *)(void *)(out + done + 16 * v), _mm512_cvtepi32_epi8(e));
            x[v] = pull(x[v], e, &at);
        }
    for (size_t v = 0; v < vectors; v++)
        _mm512_storeu_si512(d->state + 16 * v, x[v]);
    d->at = at;
    return done;
}

TARGET_AVX512 size_t rans_decode_groups_avx512(rans_decoder *d, uint8_t *out, size_t n)
{
    return d->lanes == 64 ? decode_groups(d, out, n, 4) : decode_groups(d, out, n, 2);
}

#else
typedef int rans_avx512_is_empty_here;
#endif
