/* Looking at a part of a block's elements in order to choose their form. */
#include "planes.h"

enum { RUN = 16, RUNS = 256 }; /* the sample: so many runs of so many neighbours, SAMPLE_MOST */
enum { LEAST_LOOKED_AT = 1024, LEAST_DRAWN = 128, ENOUGH = 512 }; /* bytes that low_bits_are_random looks at */

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

typedef struct byte_draws {
    unsigned drawn;
    uint8_t seen[256];
} byte_draws;

/* Draws, of each of n <= SEGMENT neighbours that is not zero, the byte above the lowest bit that any of them uses. */
static void draw_bytes(const uint8_t *p, size_t n, unsigned bytes, byte_draws *d)
{
    const uint64_t magnitude = ((uint64_t)1 << (8 * bytes - 1)) - 1;
    uint64_t u[SEGMENT], any = 0;
    for (size_t i = 0; i < n; i++)
        any |= u[i] = load_element(p + i * bytes, bytes) & magnitude;
    unsigned zeros = any ? (unsigned)__builtin_ctzll(any) : 0;
    for (size_t i = 0; i < n; i++) {
        d->drawn += u[i] != 0;
        d->seen[u[i] >> zeros & 0xff] |= u[i] != 0;
    }
}

/* Whether nearly as many values occur as would of so many random bytes. Of 512 these are 221 +- 5, of 128 101 +- 4. */
static bool look_random(const byte_draws *d)
{
    uint32_t expected = 0, distinct = 0; /* expected: in 1/65536 */
    for (unsigned i = 0; i < d->drawn; i++)
        expected += ((256 << 16) - expected) >> 8;
    for (unsigned b = 0; b < 256; b++)
        distinct += d->seen[b];
    return (uint64_t)distinct << 16 >= (uint64_t)expected * 9 / 10;
}

/* Whether the lowest bits that are used look random, in a few runs of neighbours or, where nearly all are zero, in what
 * is not of the whole block. */
bool low_bits_are_random(const uint8_t *elements, size_t n, unsigned bytes, uint32_t isa)
{
    byte_draws d = {0};
    if (n < LEAST_LOOKED_AT)
        return false;
    for (size_t run = 0; run < RUNS && d.drawn < ENOUGH; run++)
        draw_bytes(elements + run_start(run * 101 % RUNS, n - RUN) * bytes, RUN, bytes, &d);
    if (d.drawn >= ENOUGH)
        return look_random(&d);
    uint8_t kept[SEGMENT * 8 + SPARE];
    d = (byte_draws){0};
    for (size_t done = 0; done < n && d.drawn < ENOUGH; done += SEGMENT) {
        size_t part = n - done < SEGMENT ? n - done : SEGMENT;
        draw_bytes(kept, leave_out_zeros(elements + done * bytes, part, bytes, isa, kept), bytes, &d);
    }
    return d.drawn >= LEAST_DRAWN && look_random(&d);
}
