/* CRC-32C. The table-driven form takes 8 bytes a step ("slicing by 8"); x86 has an instruction for it. */
#include "internal.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* tables[0][b] is the CRC of the byte b; tables[k][b] that of b followed by k zero bytes. */
static void make_tables(uint32_t tables[8][256])
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t c = b;
        for (int i = 0; i < 8; i++)
            c = c >> 1 ^ (c & 1 ? 0x82F63B78u : 0);
        tables[0][b] = c;
    }
    for (int k = 1; k < 8; k++)
        for (int b = 0; b < 256; b++)
            tables[k][b] = tables[k - 1][b] >> 8 ^ tables[0][tables[k - 1][b] & 0xff];
}

/* One bit at a time: no table to make, so the quicker way for a few bytes. */
static uint32_t crc_bitwise(uint32_t c, const uint8_t *p, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (0x82F63B78u & (0u - (c & 1)));
    }
    return c;
}

static uint32_t crc_scalar(uint32_t c, const uint8_t *p, size_t size)
{
    if (size < 1024)
        return crc_bitwise(c, p, size);
    uint32_t t[8][256];
    make_tables(t);
    for (; size >= 8; p += 8, size -= 8) {
        uint32_t lo = load_u32(p) ^ c, hi = load_u32(p + 4);
        c = t[7][lo & 0xff] ^ t[6][lo >> 8 & 0xff] ^ t[5][lo >> 16 & 0xff] ^ t[4][lo >> 24] ^ t[3][hi & 0xff] ^
            t[2][hi >> 8 & 0xff] ^ t[1][hi >> 16 & 0xff] ^ t[0][hi >> 24];
    }
    return crc_bitwise(c, p, size);
}

#if defined(__x86_64__)
#define TARGET_CRC __attribute__((target("sse4.2,pclmul")))
enum {
    LANE = 256
}; /* bytes of each of three CRCs that are taken side by side: the instruction has a latency of three */

/* The CRC of what c is the CRC of, and then as many zero bytes as `power` says: x^(8 bytes - 33) modulo the polynomial,
 * bits reflected. The carry-less product's 63 bits stand one place from where the CRC instruction takes them, and that
 * multiplies by x^32. */
TARGET_CRC static inline uint32_t append_zeros(uint32_t c, uint32_t power)
{
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)c), _mm_cvtsi32_si128((int)power), 0);
    return (uint32_t)_mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

TARGET_CRC static inline uint64_t crc_word(uint64_t c, const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, 8);
    return _mm_crc32_u64(c, word);
}

TARGET_CRC static uint32_t crc_sse42(uint32_t c, const uint8_t *p, size_t size)
{
    const uint32_t one_lane = 0xb9e02b86, two_lanes = 0xdd7e3b0c;
    for (; size >= 3 * LANE; p += 3 * LANE, size -= 3 * LANE) {
        uint64_t x = c, y = 0, z = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            x = crc_word(x, p + i);
            y = crc_word(y, p + LANE + i);
            z = crc_word(z, p + 2 * LANE + i);
        }
        c = append_zeros((uint32_t)x, two_lanes) ^ append_zeros((uint32_t)y, one_lane) ^ (uint32_t)z;
    }
    uint64_t wide = c;
    for (; size >= 8; p += 8, size -= 8)
        wide = crc_word(wide, p);
    c = (uint32_t)wide;
    for (; size; p++, size--)
        c = _mm_crc32_u8(c, *p);
    return c;
}
#endif

uint32_t crc32c(const uint8_t *data, size_t size, uint32_t isa)
{
#if defined(__x86_64__)
    if (isa != SZD_ISA_SCALAR && __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"))
        return ~crc_sse42(~0u, data, size);
#endif
    (void)isa;
    return ~crc_scalar(~0u, data, size);
}

uint32_t szd_crc32c(const uint8_t *data, size_t size) { return crc32c(data, size, SZD_ISA_AUTO); }
