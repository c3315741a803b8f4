/* The kernels of raw low bits, of interpolated residuals and of rANS by themselves, at every instruction set against
 * the scalar one and against what they stand for. Exits with 1, and says where, if they differ. */
#include <stdio.h>
#include <stdlib.h>

#include "interp_low.h"
#include "rans.h"

enum { MOST = 3 * SEGMENT + 77, SYMBOLS = 40000 };

static uint32_t draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

static int differs(bool wrong, const char *what, unsigned isa, unsigned a, size_t n)
{
    if (wrong)
        printf("%s: isa %u, case %u, n %zu\n", what, isa, a, n);
    return wrong;
}

/* ---- raw low bits ---- */

typedef struct low_case {
    size_t n;
    unsigned k;
    uint32_t base, numbers[MOST];
    uint8_t symbols[MOST], packed[4 * MOST];
    int32_t expected[MOST];
} low_case;

/* style 0: random; 1: all bits; 2: none */
static void make_low_case(low_case *c, size_t n, unsigned k, unsigned style)
{
    uint64_t seed = n * 100 + k;
    const uint32_t mask = (uint32_t)(((uint64_t)1 << k) - 1);
    c->n = n;
    c->k = k;
    c->base = style ? 0xffffff80u : draw(&seed);
    for (size_t i = 0; i < n; i++) {
        uint32_t low = style == 0 ? draw(&seed) & mask : style == 1 ? mask : 0;
        c->symbols[i] = (uint8_t)(style == 1 ? 255 : draw(&seed));
        c->numbers[i] = low | (draw(&seed) << (k ? 32 - k : 0) & ~mask); /* what is above must not matter */
        c->expected[i] = (int32_t)((c->base + c->symbols[i]) << k | low);
    }
}

/* In parts of any length, which do not keep to segments. */
static int check_joining(const low_case *c, const lattice *l, uint32_t isa, size_t step)
{
    reader r = {c->packed, c->packed + numbers_bytes(c->n, c->k), false};
    packed_numbers p;
    packed_run run;
    int32_t joined[MOST];
    uint8_t values[2][4 * MOST];
    int bad = differs(numbers_begin(&p, &r, c->n, c->k) != SZD_OK, "numbers_begin", isa, c->k, c->n);
    for (size_t done = 0; done < c->n && !bad; done += run.n) {
        numbers_next(&p, c->n - done < step ? c->n - done : step, isa, &run);
        residuals_join(c->symbols + done, c->base, &run, isa, joined + done);
        residuals_to_values(c->symbols + done, c->base, &run, l, values[0]);
        lattice_reconstruct(l, c->expected + done, NULL, 0, run.n, values[1]);
        bad |= differs(memcmp(values[0], values[1], run.n * dtype_of(l->dtype).element_bytes) != 0, "values", isa, c->k,
                       c->n);
    }
    return bad | differs(memcmp(joined, c->expected, c->n * sizeof *joined) != 0, "joined", isa, c->k, c->n);
}

static int check_low_case(low_case *c, uint32_t isa, lattice *l)
{
    uint8_t packed[4 * MOST];
    int bad = 0;
    memset(packed, 1, sizeof packed);
    memset(c->packed, 1, sizeof c->packed);
    numbers_pack(c->numbers, c->n, c->k, SZD_ISA_SCALAR, c->packed);
    numbers_pack(c->numbers, c->n, c->k, isa, packed);
    bad |= differs(memcmp(packed, c->packed, sizeof packed) != 0, "packed", isa, c->k, c->n);
    for (uint32_t dtype = DT_F16; dtype <= DT_F32; dtype++) {
        szd_header h = {.dtype = dtype, .kind = SZD_LINEAR32, .eps = 0.37, .step = 0.5};
        lattice_begin(l, &h, isa);
        bad |= check_joining(c, l, isa, CHUNK) | check_joining(c, l, isa, 1 + c->n % 97);
    }
    return bad;
}

static int check_low_bits(uint32_t isa, lattice *l)
{
    static low_case c;
    static const size_t lengths[] = {1, 7, SEGMENT - 1, SEGMENT, SEGMENT + 1, MOST};
    int bad = 0;
    for (unsigned k = 0; k <= MAX_K; k++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            for (unsigned style = 0; style < 3; style++) {
                make_low_case(&c, lengths[i], k, style);
                bad |= check_low_case(&c, isa, l);
            }
    return bad;
}

/* ---- interpolated residuals ---- */

typedef struct residual_case {
    int32_t q[MOST];
    uint8_t groups[MOST + INTERP_GAP], classes[MOST + INTERP_GAP], k[INTERP_GROUPS], class_k[INTERP_CLASSES + 1];
} residual_case;

/* Groups of up to most_k low bits; some values have none, some residuals do not fit their group's symbols. */
static void make_residuals(residual_case *c, size_t n, unsigned most_k)
{
    uint64_t seed = 1000 * n + most_k;
    for (unsigned g = 0; g < INTERP_GROUPS; g++)
        c->k[g] = (uint8_t)(draw(&seed) % (most_k + 1));
    for (unsigned i = 0; i < INTERP_CLASSES; i++)
        c->class_k[i] = c->k[i % INTERP_GROUPS];
    c->class_k[INTERP_CLASSES] = 0;
    for (size_t i = 0; i < n; i++) {
        c->classes[i] = (uint8_t)(draw(&seed) % (INTERP_CLASSES + 1));
        c->groups[i] = c->classes[i] == INTERP_SKIPPED ? INTERP_NO_GROUP : c->classes[i] % INTERP_GROUPS;
        unsigned k = c->class_k[c->classes[i]], wide = draw(&seed) % 50 ? 8 : 20;
        int64_t range = (int64_t)1 << (k + wide < 31 ? k + wide : 31);
        c->q[i] = (int32_t)((int64_t)(draw(&seed) % (uint64_t)range) - range / 2);
    }
    c->q[n / 2] = INT32_MIN;
    c->q[n - 1] = INT32_MAX;
}

/* From a string of `size` bytes, of which the first `skip` bits are not theirs. */
static bool join(const residual_case *c, size_t n, const uint8_t *string, size_t size, unsigned skip, uint32_t isa,
                 int32_t *q)
{
    bit_reader low = {string, string + size, 0, 0, false};
    get_bits(&low, skip);
    for (size_t i = 0; i < n; i++) {
        unsigned k = c->groups[i] < INTERP_GROUPS ? c->k[c->groups[i]] : 0;
        q[i] = interp_centred(c->q[i], k) >> k;
    }
    for (size_t at = 0, part; at < n; at += part) {
        part = n - at < 301 ? n - at : 301;
        interp_low_join(c->groups + at, part, c->k, isa, &low, q + at);
    }
    end_bits(&low);
    return !low.failed;
}

static int check_residuals(uint32_t isa, size_t n, unsigned most_k, unsigned skip)
{
    static residual_case c;
    static uint8_t symbols[2][MOST], strings[2][4 * MOST + 64];
    static uint16_t cells[2][2][MOST];
    static int32_t back[2][MOST];
    size_t size[2];
    int bad = 0;
    make_residuals(&c, n, most_k);
    memset(strings, 1, sizeof strings);
    for (unsigned j = 0; j < 2; j++) {
        writer w = {strings[j], strings[j] + sizeof strings[j], false};
        bit_writer low = {&w, 0, 0};
        put_bits(&low, 0, skip);
        interp_low_split(c.q, c.groups, n, c.k, j ? isa : SZD_ISA_SCALAR, symbols[j], &low);
        flush_bits(&low);
        size[j] = (size_t)(w.at - strings[j]);
        interp_low_cells(c.q, c.classes, n, 255, c.class_k, j ? isa : SZD_ISA_SCALAR, cells[0][j]);
        interp_low_cells(c.q, c.classes, n, INTERP_SKIPPED, c.class_k, j ? isa : SZD_ISA_SCALAR, cells[1][j]);
    }
    for (unsigned j = 0; j < 2; j++)
        bad |= differs(memcmp(cells[j][0], cells[j][1], 2 * n) != 0, "cells", isa, most_k, n);
    bad |= differs(memcmp(symbols[0], symbols[1], n) != 0, "symbols", isa, most_k, n);
    bad |= differs(size[0] != size[1] || memcmp(strings[0], strings[1], size[0]) != 0, "low bits", isa, most_k, n);
    bad |= differs(!join(&c, n, strings[0], size[0], skip, isa, back[0]), "joining", isa, most_k, n);
    bad |= differs(memcmp(back[0], c.q, 4 * n) != 0, "joined", isa, most_k, n);
    for (size_t less = 1; less < 9 && less < size[0]; less++) {
        bool good = join(&c, n, strings[0], size[0] - less, skip, isa, back[0]);
        bool same = good == join(&c, n, strings[0], size[0] - less, skip, SZD_ISA_SCALAR, back[1]);
        bad |= differs(good || !same, "cut short", isa, most_k, n);
    }
    return bad;
}

/* By groups and back; zeros, counts and symbols without low bits on the way. */
static int check_groups(uint32_t isa, size_t n, unsigned count)
{
    static residual_case c;
    static uint8_t groups[2][MOST], classes[2][MOST], sorted[2][INTERP_GROUPS][MOST + INTERP_GAP], back[MOST];
    static int32_t wide[2][MOST];
    static uint64_t outside[2][MOST / 64 + 1];
    uint8_t least[INTERP_GROUPS], most[INTERP_GROUPS];
    uint32_t counts[2][INTERP_GROUPS];
    uint8_t table[INTERP_CLASSES];
    uint64_t seed = n + count;
    int bad = 0;
    make_residuals(&c, n, 0);
    for (unsigned i = 0; i < INTERP_CLASSES; i++)
        table[i] = (uint8_t)(i % count);
    for (size_t i = 0; i < n; i++)
        back[i] = (uint8_t)draw(&seed);
    for (unsigned g = 0; g < INTERP_GROUPS; g++) {
        least[g] = (uint8_t)(g % 5 ? draw(&seed) : 255);
        most[g] = (uint8_t)(g % 5 ? draw(&seed) : 0);
    }
    for (unsigned j = 0; j < 2; j++) {
        uint32_t with = j ? isa : SZD_ISA_SCALAR;
        uint8_t *to[INTERP_GROUPS], zeros[MOST], merged[MOST];
        const uint8_t *from[INTERP_GROUPS];
        for (size_t i = 0; i < n; i++)
            zeros[i] = i % 7 == 3 || i / 40 % 5 == 2;
        memcpy(classes[j], c.classes, n);
        interp_groups_skip(zeros, n, with, classes[j]);
        interp_groups_map(classes[j], n, table, with, groups[j]);
        interp_groups_count(groups[j], n, count, with, counts[j]);
        interp_low_widen(back, n, with, wide[j]);
        interp_low_outside(back, groups[j], n, least, most, with, outside[j]);
        for (unsigned g = 0; g < count; g++)
            from[g] = to[g] = sorted[j][g];
        interp_groups_split(groups[j], back, n, count, with, to);
        for (unsigned g = 0; g < count; g++)
            bad |= differs((size_t)(to[g] - from[g]) != counts[j][g], "counts of groups", isa, count, n);
        interp_groups_merge(groups[j], n, count, with, from, merged);
        for (size_t i = 0; i < n; i++)
            bad |= differs(merged[i] != (groups[j][i] < count ? back[i] : INTERP_CENTRE), "merged", isa, count, n);
    }
    bad |= differs(memcmp(classes[0], classes[1], n) != 0, "skipped", isa, count, n);
    bad |= differs(memcmp(groups[0], groups[1], n) != 0, "groups", isa, count, n);
    bad |= differs(memcmp(wide[0], wide[1], 4 * n) != 0, "widened", isa, count, n);
    bad |= differs(memcmp(outside[0], outside[1], (n + 63) / 64 * 8) != 0, "outside", isa, count, n);
    for (unsigned g = 0; g < count; g++)
        bad |= differs(memcmp(sorted[0][g], sorted[1][g], counts[0][g]) != 0, "sorted", isa, count, n);
    return bad;
}

static int check_all_residuals(uint32_t isa)
{
    static const size_t lengths[] = {1, 15, 16, 17, 500, MOST};
    static const unsigned most[] = {0, 1, 7, 8, 14, 15, INTERP_MOST_LOW};
    int bad = 0;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (unsigned count = 1; count <= INTERP_GROUPS; count += 5)
            bad |= check_groups(isa, lengths[i], count);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (size_t j = 0; j < sizeof most / sizeof *most; j++)
            for (unsigned skip = 0; skip < 8; skip += 7)
                bad |= check_residuals(isa, lengths[i], most[j], skip);
    return bad;
}

/* ---- rANS ---- */

/* 0: all 256 as often; 1: a hump; 2: two symbols, one of them rare; 3: nearly all one of a hundred; 4: rising */
static void make_symbols(unsigned shape, uint8_t *symbols, size_t n)
{
    uint64_t seed = shape + 1;
    for (size_t i = 0; i < n; i++) {
        uint32_t u = draw(&seed), hump = u % 9 + (u >> 8) % 9 + (u >> 16) % 9;
        switch (shape) {
        case 0: symbols[i] = (uint8_t)(u >> 3); break;
        case 1: symbols[i] = (uint8_t)(100 + hump); break;
        case 2: symbols[i] = u % 3000 ? 255 : 254; break;
        case 3: symbols[i] = (uint8_t)(u % 20 ? 17 : hump + u % 73); break;
        default: symbols[i] = (uint8_t)(i * 150 / n);
        }
    }
}

static int check_rans(uint32_t isa, unsigned shape, size_t n)
{
    static uint8_t symbols[SYMBOLS], decoded[SYMBOLS], scratch[2 * SYMBOLS + 64], out[2][2 * SYMBOLS + 512];
    static rans_decoder d;
    uint32_t counts[256];
    freq_table t;
    int bad = 0;
    make_symbols(shape, symbols, n);
    histogram_u8(symbols, n, isa, counts);
    freqs_fit(counts, n, false, &t);
    const rans_segment two[2] = {{symbols, n / 3, SYMBOLS_AS_THEY_ARE, &t},
                                 {symbols + n / 3, n - n / 3, SYMBOLS_AS_THEY_ARE, &t}};
    for (unsigned lanes_log2 = 0; lanes_log2 <= RANS_LANES_LOG2; lanes_log2++) {
        size_t size[2];
        for (unsigned k = 0; k < 2; k++) {
            writer w = {out[k], out[k] + sizeof out[k], false};
            rans_encode(two, 2, lanes_log2, NULL, k ? isa : SZD_ISA_SCALAR, scratch, sizeof scratch, &w);
            size[k] = (size_t)(w.at - out[k]);
        }
        bad |= differs(size[0] != size[1] || memcmp(out[0], out[1], size[0]) != 0, "rANS", isa, shape, n);
        reader r = {out[0], out[0] + size[0], false};
        uint64_t length = read_varint(&r);
        bool good = rans_begin(&d, lanes_log2, r.at, length);
        rans_use(&d, &t);
        for (size_t done = 0, part; good && done < n; done += part) { /* parts begin in any lane */
            part = n - done < 5003 ? n - done : 5003;
            good = rans_decode(&d, decoded + done, part, isa);
        }
        good = good && rans_finished(&d) && memcmp(decoded, symbols, n) == 0;
        bad |= differs(!good, "rANS decoding", isa, shape, n);
    }
    return bad;
}

/* ---- CRC-32C ---- */

static int check_crc(uint32_t isa)
{
    static uint8_t message[SYMBOLS];
    uint64_t seed = 1;
    int bad = 0;
    for (size_t i = 0; i < sizeof message; i++)
        message[i] = (uint8_t)draw(&seed);
    for (size_t size = 0; size + 7 <= sizeof message; size = size * 5 / 4 + 1)
        bad |= differs(crc32c(message + size % 7, size, isa) != crc32c(message + size % 7, size, SZD_ISA_SCALAR),
                       "CRC-32C", isa, size % 7, size);
    return bad;
}

int main(void)
{
    lattice *l = malloc(sizeof *l);
    int bad = !l;
    for (uint32_t isa = SZD_ISA_SCALAR; isa <= SZD_ISA_NEON && l; isa++) {
        uint32_t there = isa_resolve(isa);
        bad |= check_low_bits(there, l) | check_all_residuals(there) | check_crc(there);
        for (unsigned shape = 0; shape < 5; shape++)
            bad |= check_rans(there, shape, SYMBOLS) | check_rans(there, shape, 1000 + shape);
    }
    free(l);
    return bad;
}
