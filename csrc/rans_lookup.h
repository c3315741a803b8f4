/* The rANS decoder's table, looked up for several lanes at once. */
#ifndef SZD_RANS_LOOKUP_H
#define SZD_RANS_LOOKUP_H
#include "rans.h"
#if defined(__x86_64__)
#include <immintrin.h>

/* The entry at `place` in lane `lane` of four, with what lies beside it in the others: RANS_MARGIN is for these. */
TARGET_AVX2 INLINE __m128i entry_in_lane(const uint32_t *place, int lane)
{
    return _mm_loadu_si128((const __m128i *)(const void *)(place - lane));
}

TARGET_AVX2 INLINE __m128i look_up_four(const uint32_t *table, __m128i slot)
{
    uint64_t low = (uint64_t)_mm_cvtsi128_si64(slot), up = (uint64_t)_mm_extract_epi64(slot, 1);
    __m128i a = entry_in_lane(table + (uint32_t)low, 0), b = entry_in_lane(table + (low >> 32), 1);
    __m128i c = entry_in_lane(table + (uint32_t)up, 2), d = entry_in_lane(table + (up >> 32), 3);
    return _mm_blend_epi32(_mm_blend_epi32(a, b, 2), _mm_blend_epi32(c, d, 8), 12);
}

/* table[slot] for 8 lanes. Eight loads, blended: on Zen 4 faster than the gather instruction, and than loads of single
 * entries, which have to be shuffled together. */
TARGET_AVX2 INLINE __m256i look_up_eight(const uint32_t *table, __m256i slot)
{
    __m128i low = look_up_four(table, _mm256_castsi256_si128(slot)),
            up = look_up_four(table, _mm256_extracti128_si256(slot, 1));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), up, 1);
}
#endif
#endif
