/* A tile's elements in the order of the stages: from the finest stage to the coarsest, its elements leave the array,
 * which closes up. And where the zeros are. */
#include "interp.h"

void interp_unweave_bytes(const uint8_t *from, size_t n, uint8_t *even, uint8_t *odd)
{
    uint8_t part[2 * INTERP_SEGMENT];
    for (size_t done = 0; done < n; done += sizeof part) {
        size_t now = n - done < sizeof part ? n - done : sizeof part;
        memcpy(part, from + done, now);
        for (size_t i = 0; i < now / 2; i++) {
            even[done / 2 + i] = part[2 * i];
            odd[done / 2 + i] = part[2 * i + 1];
        }
        if (now & 1)
            even[done / 2 + now / 2] = part[now - 1];
    }
}

static void leave_along_rows(const interp_stage *s, interp_unweave unweave, unsigned bytes, const uint8_t *from,
                             uint8_t *elements, uint8_t *coming)
{
    size_t known = s->known[INTERP_LAST], n = known + s->width;
    for (size_t r = 0; r < s->rows; r++)
        unweave(from + r * n * bytes, n, elements + r * known * bytes, coming + r * s->width * bytes);
}

/* Blocks of whole rows, every other one. */
static void leave_across_rows(const interp_stage *s, unsigned bytes, const uint8_t *from, uint8_t *elements,
                              uint8_t *coming)
{
    size_t block = s->width * bytes, outer = 1, n = s->known[s->axis] + s->extent[s->axis];
    for (unsigned a = s->axis + 1; a < INTERP_LAST; a++)
        block *= s->extent[a];
    for (unsigned a = 0; a < s->axis; a++)
        outer *= s->extent[a];
    uint8_t *kept = elements;
    for (size_t o = 0; o < outer; o++)
        for (size_t i = 0; i < n; i++, from += block) {
            if (i & 1) {
                memcpy(coming, from, block);
                coming += block;
            } else {
                memmove(kept, from, block);
                kept += block;
            }
        }
}

void interp_sort(const interp_plan *plan, interp_unweave unweave, unsigned bytes, const uint8_t *from,
                 uint8_t *elements, uint8_t *coming)
{
    for (unsigned i = plan->count; i-- > 0; from = elements) {
        const interp_stage *s = plan->stages + i;
        uint8_t *to = coming + s->before * bytes;
        if (s->axis == INTERP_LAST)
            leave_along_rows(s, unweave, bytes, from, elements, to);
        else
            leave_across_rows(s, bytes, from, elements, to);
    }
}

static size_t row_of(const tile *t)
{
    size_t row = (size_t)t->extent[t->rank - 1];
    return row < t->count ? row : 1;
}

/* Eight flags to eight bits: the product brings flag i, bit 8 i, to bit 56 + i. */
void interp_zeros_pack(const tile *t, const uint8_t *zeros, uint8_t *bits)
{
    size_t n = (size_t)t->count, row = row_of(t), i = 0;
    memset(bits, 0, (n + 7) / 8);
    for (; i < n && (i < row || i & 7); i++)
        bits[i / 8] |= (uint8_t)((zeros[i] ^ (i >= row ? zeros[i - row] : 0)) << (i & 7));
    for (; i + 8 <= n; i += 8)
        bits[i / 8] = (uint8_t)(((load_u64(zeros + i) ^ load_u64(zeros + i - row)) * 0x0102040810204080) >> 56);
    for (; i < n; i++)
        bits[i / 8] |= (uint8_t)((zeros[i] ^ zeros[i - row]) << (i & 7));
}

void interp_zeros_unpack(const tile *t, const uint8_t *bits, uint8_t *zeros)
{
    size_t n = (size_t)t->count, row = row_of(t), i = 0;
    for (; i < n && (i < row || i & 7 || row < 8); i++)
        zeros[i] = (bits[i / 8] >> (i & 7) & 1) ^ (i >= row ? zeros[i - row] : 0);
    for (; i + 8 <= n; i += 8) {
        uint64_t spread = bits[i / 8] * 0x0101010101010101u & 0x8040201008040201u;
        spread = (spread + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
        store_u64(zeros + i, spread ^ load_u64(zeros + i - row));
    }
    for (; i < n; i++)
        zeros[i] = (bits[i / 8] >> (i & 7) & 1) ^ zeros[i - row];
}
