/* Looking at a part of a block's elements in order to choose their form. */
#include "planes.h"

enum { RUN = 16, RUNS = 256 };          /* the sample: so many runs of so many neighbours, SAMPLE_MOST */
enum { RANDOM_RUN = 16, ENOUGH = 512 }; /* that of low_bits_are_random */
enum { LEAST_DISTINCT = 200 };          /* of 512 random bytes 221 +- 5 differ */

/* ---- logarithms ---- */

/* log2(v) in 1/65536 within 20 units: a table of log2(1 + i / 32) and a line between. v > 0 */
uint32_t quick_log2(uint64_t v)
{
    static const uint32_t table[33] = {0,     2909,  5732,  8473,  11136, 13727, 16248, 18704, 21098, 23433, 25711,
                                       27936, 30109, 32234, 34312, 36346, 38336, 40286, 42196, 44068, 45904, 47705,
                                       49472, 51207, 52911, 54584, 56229, 57845, 59434, 60997, 62534, 64047, 65536};
    unsigned whole = bit_length(v) - 1;
    uint32_t fraction = (uint32_t)(v << (63 - whole) << 1 >> 43), i = fraction >> 16, rest = fraction & 0xffff;
    return (whole << 16) + table[i] + ((table[i + 1] - table[i]) * rest >> 16);
}

/* v log2(v) in 1/65536 */
uint64_t v_log2_v(uint64_t v) { return v ? v * quick_log2(v) : 0; }

/* ---- the sample ---- */

/* Where run k of RUNS starts, below `end`: one in each of as many equal parts, so that no period of the data is met. */
static size_t run_start(size_t k, size_t end)
{
    size_t step = end / RUNS;
    return k * step + k * k * 977 % step;
}

/* The next run of the sample; false after the last. */
bool next_run(sample_runs *s, size_t *start, size_t *length)
{
    if (s->everything || s->n <= SAMPLE_MOST) {
        *start = 0;
        *length = s->n;
        return s->next++ == 0;
    }
    *start = run_start(s->next, s->n - RUN);
    *length = RUN;
    return s->next++ < RUNS;
}

INLINE void widen(const uint8_t *p, size_t n, unsigned bytes, uint64_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = load_element(p + i * bytes, bytes);
}

/* The next elements of the sample, at most SAMPLE_MOST; 0 after the last. A sample of a part of the block is one piece.
 */
size_t next_piece(sample_runs *s, const uint8_t *elements, unsigned bytes, uint64_t piece[SAMPLE_MOST])
{
    size_t count = 0, start, length;
    if (s->everything || s->n <= SAMPLE_MOST) {
        count = s->n - s->next < SAMPLE_MOST ? s->n - s->next : SAMPLE_MOST;
        widen(elements + s->next * bytes, count, bytes, piece);
        s->next += count;
        return count;
    }
    for (; next_run(s, &start, &length); count += RUN)
        switch (bytes) {
        case 2: widen(elements + 2 * start, RUN, 2, piece + count); break;
        case 4: widen(elements + 4 * start, RUN, 4, piece + count); break;
        default: widen(elements + start * bytes, RUN, bytes, piece + count);
        }
    return count;
}

/* Whether the byte above the lowest bit that neighbours use takes nearly as many values as a random one would. */
bool low_bits_are_random(const uint8_t *elements, size_t n, unsigned bytes)
{
    if (n < SAMPLE_MOST)
        return false;
    const uint64_t magnitude = ((uint64_t)1 << (8 * bytes - 1)) - 1;
    uint8_t seen[256] = {0};
    unsigned drawn = 0, distinct = 0;
    for (size_t run = 0; run < RUNS && drawn < ENOUGH; run++) {
        const uint8_t *p = elements + run_start(run * 101 % RUNS, n - RANDOM_RUN) * bytes;
        uint64_t u[RANDOM_RUN], any = 0;
        for (size_t i = 0; i < RANDOM_RUN; i++)
            any |= u[i] = load_element(p + i * bytes, bytes) & magnitude;
        unsigned zeros = any ? (unsigned)__builtin_ctzll(any) : 0;
        for (size_t i = 0; i < RANDOM_RUN; i++) {
            drawn += u[i] != 0;
            seen[u[i] >> zeros & 0xff] |= u[i] != 0;
        }
    }
    for (unsigned b = 0; b < 256; b++)
        distinct += seen[b];
    return drawn >= ENOUGH && distinct >= LEAST_DISTINCT;
}
