/* Residuals are base + symbol, and below these k raw low bits in slices (FORMAT.md, section 6, step 4). Here the two
 * are joined, and brought to values at once where nothing comes between. Branch-free bodies, one for each number of
 * slices: they vectorise. */
#include "convert.h"
#include "planes.h"

/* ---- numbers of k bits ---- */

static split_form form_of(unsigned k) { return (split_form){.bytes = 4, .low = k}; }

size_t numbers_bytes(size_t n, unsigned k)
{
    return n / SEGMENT * packed_bytes(SEGMENT, k) + packed_bytes(n % SEGMENT, k);
}

void numbers_pack(const uint32_t *numbers, size_t n, unsigned k, uint32_t isa, uint8_t *packed)
{
    const split_form f = form_of(k);
    for (size_t done = 0; k && done < n; done += SEGMENT) {
        size_t part = n - done < SEGMENT ? n - done : SEGMENT;
        split_low_bits(&f, (const uint8_t *)(numbers + done), part, 0, isa, packed);
        packed += packed_bytes(part, k);
    }
}

int numbers_begin(packed_numbers *p, reader *r, size_t n, unsigned k)
{
    *p = (packed_numbers){read_bytes(r, numbers_bytes(n, k)), n, 0, k};
    if (!p->at)
        return SZD_BLOCK_SHORT;
    const uint8_t *last = p->at + n / SEGMENT * packed_bytes(SEGMENT, k);
    return packed_is_padded(last, n % SEGMENT, k) ? SZD_OK : SZD_BLOCK_NUMBERS;
}

/* At most the next n, to the segment's end; of 0 bits all. */
void numbers_next(packed_numbers *p, size_t n, uint32_t isa, packed_run *run)
{
    run->n = n;
    run->k = p->k;
    if (!p->k)
        return;
    const size_t start = p->next / SEGMENT * SEGMENT, from = p->next - start;
    const size_t length = p->n - start < SEGMENT ? p->n - start : SEGMENT;
    run->n = length - from < n ? length - from : n;
    low_slices(p->at + start / SEGMENT * packed_bytes(SEGMENT, p->k), length, p->k, MOST_LOW_SLICES, isa, run->slices,
               run->rest);
    for (unsigned k = 0; k < MOST_LOW_SLICES; k++)
        run->slices[k] += from;
    p->next += run->n;
}

/* ---- the loops ---- */

INLINE uint32_t number_of(const uint8_t *const *slices, unsigned count, size_t i)
{
    uint32_t v = 0;
    for (unsigned k = 0; k < count; k++)
        v |= (uint32_t)slices[k][i] << (8 * k);
    return v;
}

static unsigned slice_count(const packed_run *run) { return (run->k + 7) / 8; }

void numbers_unpack(const packed_run *run, uint32_t *numbers)
{
    for (size_t i = 0; i < run->n; i++)
        numbers[i] = number_of(run->slices, slice_count(run), i);
}

int32_t residual_of(int32_t high, const packed_run *low, size_t i)
{
    return (int32_t)((uint32_t)high << low->k | number_of(low->slices, slice_count(low), i));
}

/* A run as values of its own, which no store can change. */
typedef struct run_view {
    const uint8_t *symbols, *slices[MOST_LOW_SLICES];
    size_t n;
    unsigned k, count;
    uint32_t base;
} run_view;

INLINE run_view view_of(const uint8_t *symbols, uint32_t base, const packed_run *low, unsigned count)
{
    run_view v = {.symbols = symbols, .n = low->n, .k = low->k, .count = count, .base = base};
    for (unsigned k = 0; k < count; k++)
        v.slices[k] = low->slices[k];
    return v;
}

INLINE int32_t joined(const run_view *v, size_t i)
{
    return (int32_t)((v->base + v->symbols[i]) << v->k | number_of(v->slices, v->count, i));
}

INLINE void join_slices(run_view v, int32_t *restrict out)
{
    for (size_t i = 0; i < v.n; i++)
        out[i] = joined(&v, i);
}

INLINE void values_of_slices(run_view v, uint32_t dtype, float step, uint8_t *restrict values)
{
    for (size_t i = 0; i < v.n; i++)
        store_float(dtype, (float)joined(&v, i) * step, values, i);
}

#define FOR_COUNT(count, call) \
    switch (count) {           \
    case 0: call(0); break;    \
    case 1: call(1); break;    \
    case 2: call(2); break;    \
    default: call(3);          \
    }

INLINE void join_body(const uint8_t *symbols, uint32_t base, const packed_run *low, int32_t *out){
#define JOIN(count) join_slices(view_of(symbols, base, low, count), out)
    FOR_COUNT(slice_count(low), JOIN)}

INLINE void values_body(const uint8_t *symbols, uint32_t base, const packed_run *low, uint32_t dtype, float step,
                        uint8_t *values)
{
#define VALUES_F32(count) values_of_slices(view_of(symbols, base, low, count), DT_F32, step, values)
#define VALUES_BF16(count) values_of_slices(view_of(symbols, base, low, count), DT_BF16, step, values)
#define VALUES_F16(count) values_of_slices(view_of(symbols, base, low, count), DT_F16, step, values)
    switch (dtype) {
    case DT_F32: FOR_COUNT(slice_count(low), VALUES_F32) break;
    case DT_BF16: FOR_COUNT(slice_count(low), VALUES_BF16) break;
    default: FOR_COUNT(slice_count(low), VALUES_F16)
    }
}

#define KERNELS(suffix, target)                                                                                      \
    target static void join_##suffix(const uint8_t *symbols, uint32_t base, const packed_run *low, int32_t *out)     \
    {                                                                                                                \
        join_body(symbols, base, low, out);                                                                          \
    }                                                                                                                \
                                                                                                                     \
    target static void values_##suffix(const uint8_t *symbols, uint32_t base, const packed_run *low, uint32_t dtype, \
                                       float step, uint8_t *values)                                                  \
    {                                                                                                                \
        values_body(symbols, base, low, dtype, step, values);                                                        \
    }
KERNELS(scalar, )
KERNELS(avx2, TARGET_AVX2)
KERNELS(avx512, TARGET_AVX512)

void residuals_join(const uint8_t *symbols, uint32_t base, const packed_run *low, uint32_t isa, int32_t *out)
{
    PICK(isa, join)(symbols, base, low, out);
}

void residuals_to_values(const uint8_t *symbols, uint32_t base, const packed_run *low, const lattice *l,
                         uint8_t *values)
{
    PICK(l->isa, values)(symbols, base, low, l->dtype, l->step32, values);
}
