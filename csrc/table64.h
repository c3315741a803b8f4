/* Tables of 64 bytes that vectors of 256 bits look up. */
#ifndef SZD_TABLE64_H
#define SZD_TABLE64_H
#include "internal.h"
#if defined(__x86_64__)
#include <immintrin.h>

typedef struct table64 {
    __m256i part[4];
} table64;

TARGET_AVX2 INLINE table64 table64_load(const uint8_t bytes[64])
{
    table64 t;
    for (unsigned i = 0; i < 4; i++)
        t.part[i] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(bytes + 16 * i)));
    return t;
}

/* Of each byte below 64 what the table has there; 0 for those from 128 on. */
TARGET_AVX2 INLINE __m256i table64_look_up(const table64 *t, __m256i at)
{
    __m256i bit_4 = _mm256_slli_epi16(at, 3), bit_5 = _mm256_slli_epi16(at, 2); /* as the bytes' highest */
    __m256i low = _mm256_blendv_epi8(_mm256_shuffle_epi8(t->part[0], at), _mm256_shuffle_epi8(t->part[1], at), bit_4);
    __m256i high = _mm256_blendv_epi8(_mm256_shuffle_epi8(t->part[2], at), _mm256_shuffle_epi8(t->part[3], at), bit_4);
    return _mm256_blendv_epi8(low, high, bit_5);
}
#endif
#endif
