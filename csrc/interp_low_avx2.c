/* The twins of interp_low.c's loops with vectors of 256 bits. They do whole vectors and return how many values that
 * were; the loops there do the rest. */
#include "interp_low.h"
#include "table64.h"
#if defined(__x86_64__)
#include <immintrin.h>

TARGET_AVX2 INLINE __m256i load_256(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
TARGET_AVX2 INLINE __m128i load_128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
TARGET_AVX2 INLINE __m128i load_64(const void *p) { return _mm_loadl_epi64((const __m128i *)p); }

/* The low bits of 8 values' groups; INTERP_NO_GROUP has none. */
TARGET_AVX2 INLINE __m256i bits_of_groups(const uint8_t *groups, __m128i k)
{
    return _mm256_cvtepu8_epi32(_mm_shuffle_epi8(k, load_64(groups)));
}

TARGET_AVX2 INLINE __m256i centred(__m256i q, __m256i bits)
{
    return _mm256_add_epi32(q, _mm256_srli_epi32(_mm256_sllv_epi32(_mm256_set1_epi32(1), bits), 1));
}

/* 0 for those beyond. */
TARGET_AVX2 INLINE __m256i symbols_of(__m256i v, __m256i bits)
{
    __m256i s = _mm256_add_epi32(_mm256_srav_epi32(v, bits), _mm256_set1_epi32(INTERP_CENTRE));
    __m256i near = _mm256_cmpeq_epi32(_mm256_min_epu32(s, _mm256_set1_epi32(255)), s);
    return _mm256_and_si256(s, near);
}

/* Neighbours in one, as long as eight bits of a byte begun and all of theirs go into 64; then one after the other. */
TARGET_AVX2 INLINE void put_low(__m256i v, __m256i bits, unsigned most, bit_writer *low)
{
    const __m256i half = _mm256_set1_epi64x(0xffffffff);
    uint64_t strings[4], lengths[4];
    __m256i n = _mm256_and_si256(bits, half), m = _mm256_srli_epi64(bits, 32);
    v = _mm256_or_si256(_mm256_and_si256(v, half), _mm256_sllv_epi64(_mm256_srli_epi64(v, 32), n));
    n = _mm256_add_epi64(n, m);
    unsigned apart = 1;
    if (most <= 14) {
        v = _mm256_or_si256(v, _mm256_sllv_epi64(_mm256_permute4x64_epi64(v, 0xb1), n));
        n = _mm256_add_epi64(n, _mm256_permute4x64_epi64(n, 0xb1));
        apart = 2;
    }
    if (most <= 7) {
        v = _mm256_or_si256(v, _mm256_sllv_epi64(_mm256_permute4x64_epi64(v, 0x4e), n));
        n = _mm256_add_epi64(n, _mm256_permute4x64_epi64(n, 0x4e));
        apart = 4;
    }
    _mm256_storeu_si256((__m256i *)(void *)strings, v);
    _mm256_storeu_si256((__m256i *)(void *)lengths, n);
    for (unsigned i = 0; i < 4; i += apart)
        put_bits(low, strings[i], (unsigned)lengths[i]);
}

TARGET_AVX2 size_t interp_low_split_avx2(const int32_t *q, const uint8_t *groups, size_t n,
                                         const uint8_t k[INTERP_GROUPS], uint8_t *symbols, bit_writer *low)
{
    const __m128i table = load_128(k);
    const __m256i all = _mm256_set1_epi32(-1);
    unsigned most = 0;
    size_t i = 0;
    for (unsigned g = 0; g < INTERP_GROUPS; g++)
        most = k[g] > most ? k[g] : most;
    for (; i + 8 <= n; i += 8) {
        __m256i bits = bits_of_groups(groups + i, table), v = centred(load_256(q + i), bits);
        __m256i s = symbols_of(v, bits);
        __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
        _mm_storel_epi64((__m128i *)(void *)(symbols + i), _mm_packus_epi16(words, words));
        if (most)
            put_low(_mm256_andnot_si256(_mm256_sllv_epi32(all, bits), v), bits, most, low);
    }
    return i;
}

TARGET_AVX2 size_t interp_low_cells_avx2(const int32_t *q, const uint8_t *classes, size_t n, uint8_t mask,
                                         const uint8_t k[INTERP_CLASSES + 1], uint16_t *cells)
{
    const table64 table = table64_load(k);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i c = _mm256_and_si256(load_256(classes + i), _mm256_set1_epi8((char)mask));
        __m256i skipped = _mm256_cmpeq_epi8(c, _mm256_set1_epi8(INTERP_SKIPPED));
        uint8_t bits[32];
        _mm256_storeu_si256((__m256i *)(void *)bits, _mm256_andnot_si256(skipped, table64_look_up(&table, c)));
        for (unsigned j = 0; j < 32; j += 16) {
            __m256i b = _mm256_cvtepu8_epi32(load_64(bits + j)), d = _mm256_cvtepu8_epi32(load_64(bits + j + 8));
            __m256i s = symbols_of(centred(load_256(q + i + j), b), b),
                    t = symbols_of(centred(load_256(q + i + j + 8), d), d);
            __m128i class = j ? _mm256_extracti128_si256(c, 1) : _mm256_castsi256_si128(c);
            __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(s, t), 0xd8);
            words = _mm256_or_si256(words, _mm256_slli_epi16(_mm256_cvtepu8_epi16(class), 8));
            _mm256_storeu_si256((__m256i *)(void *)(cells + i + j), words);
        }
    }
    return i;
}

/* n: at most a multiple of 64 of them is done. */
TARGET_AVX2 size_t interp_low_outside_avx2(const uint8_t *symbols, const uint8_t *groups, size_t n,
                                           const uint8_t least[INTERP_GROUPS], const uint8_t most[INTERP_GROUPS],
                                           uint64_t *outside)
{
    const __m256i from = _mm256_broadcastsi128_si256(load_128(least)), to = _mm256_broadcastsi128_si256(load_128(most)),
                  none = _mm256_set1_epi8((char)INTERP_NO_GROUP);
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        uint64_t bits = 0;
        for (unsigned j = 0; j < 64; j += 32) {
            __m256i s = load_256(symbols + i + j), g = load_256(groups + i + j);
            __m256i above = _mm256_cmpeq_epi8(_mm256_max_epu8(s, _mm256_shuffle_epi8(from, g)), s);
            __m256i below = _mm256_cmpeq_epi8(_mm256_min_epu8(s, _mm256_shuffle_epi8(to, g)), s);
            __m256i inside = _mm256_or_si256(_mm256_and_si256(above, below), _mm256_cmpeq_epi8(g, none));
            bits |= (uint64_t)(uint32_t)~_mm256_movemask_epi8(inside) << j;
        }
        outside[i / 64] = bits;
    }
    return i;
}

/* 4 values have at most 4 x 24 bits, which lie in 16 bytes wherever in the first they begin. */
TARGET_AVX2 size_t interp_low_join_avx2(const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS],
                                        const uint8_t *end, bit_place *place, int32_t *q)
{
    const __m128i table = load_128(k);
    const __m256i one = _mm256_set1_epi32(1), seven = _mm256_set1_epi32(7),
                  first_bytes = _mm256_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12, 0, 0, 0, 0, 4, 4,
                                                 4, 4, 8, 8, 8, 8, 12, 12, 12, 12),
                  next_bytes = _mm256_set1_epi32(0x03020100);
    bit_place p = *place;
    size_t i = 0;
    for (; i + 8 <= n && end - p.at >= 32; i += 8) {
        __m256i bits = bits_of_groups(groups + i, table), sums = bits;
        sums = _mm256_add_epi32(sums, _mm256_slli_si256(sums, 4));
        sums = _mm256_add_epi32(sums, _mm256_slli_si256(sums, 8));
        bit_place upper = p;
        bit_place_advance(&upper, (unsigned)_mm256_extract_epi32(sums, 3));
        __m256i offset =
            _mm256_inserti128_si256(_mm256_set1_epi32((int)p.offset), _mm_set1_epi32((int)upper.offset), 1);
        __m256i from = _mm256_add_epi32(_mm256_sub_epi32(sums, bits), offset);
        __m256i bytes = _mm256_add_epi32(_mm256_shuffle_epi8(_mm256_srli_epi32(from, 3), first_bytes), next_bytes);
        __m256i data = _mm256_inserti128_si256(_mm256_castsi128_si256(load_128(p.at)), load_128(upper.at), 1);
        __m256i word = _mm256_srlv_epi32(_mm256_shuffle_epi8(data, bytes), _mm256_and_si256(from, seven));
        __m256i range = _mm256_sllv_epi32(one, bits);
        __m256i v = _mm256_and_si256(word, _mm256_sub_epi32(range, one));
        v = _mm256_or_si256(_mm256_sllv_epi32(load_256(q + i), bits), v);
        _mm256_storeu_si256((__m256i *)(void *)(q + i), _mm256_sub_epi32(v, _mm256_srli_epi32(range, 1)));
        bit_place_advance(&upper, (unsigned)_mm256_extract_epi32(sums, 7));
        p = upper;
    }
    *place = p;
    return i;
}
#else
typedef int interp_low_avx2_is_empty_here;
#endif
