/* Writes the targets' seed corpora: ./seeds FOLDER [NUMBER]. What the encoders make of values of all kinds, in the form
 * that each target reads. The same on every machine. */
#include "fuzz.h"
#include "symbols.h"
#include "values.h"
#include <sys/stat.h>

enum { SEED_BYTES = 1 << 21, SEED_MOST = 1 << 14, SEED_PLAN = 160, SEED_SYMBOLS = 2500 };
static const char *folder;
static uint64_t state = 1;
static uint8_t coded[SEED_BYTES], scratch[1 << 25], values[PLAN_MOST * 8], reference[PLAN_MOST * 8];
static unsigned number;

static uint32_t dice(uint32_t below) { return (uint32_t)(noise(&state) % below); }

/* Starts a seed; what it holds is written to the writer. */
static writer seed_begin(void) { return (writer){coded, coded + sizeof coded, false}; }

static void write_u16(writer *w, unsigned v)
{
    write_u8(w, v & 255);
    write_u8(w, v >> 8 & 255);
}

static void seed_end(const char *target, const writer *w)
{
    char path[4096];
    CHECK(!w->failed);
    if (w->at - coded > SEED_MOST) /* small ones are what a fuzzer wants */
        return;
    snprintf(path, sizeof path, "%s/%s", folder, target);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/seed-%04u", folder, target, number);
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(coded, 1, (size_t)(w->at - coded), file) == (size_t)(w->at - coded) && fclose(file) == 0);
}

/* Symbols with about `spread` different values around 128, some runs of one value. */
static size_t some_symbols(uint8_t *symbols, uint32_t counts[256])
{
    size_t n = 2 + dice(SEED_SYMBOLS);
    unsigned spread = 1 + dice(dice(3) ? 12 : 250);
    memset(counts, 0, 256 * sizeof *counts);
    for (size_t i = 0; i < n; i++) {
        symbols[i] = (uint8_t)(128 + (dice(spread) + dice(spread) + dice(spread)) / 3 - spread / 2);
        if (i && dice(4) == 0)
            symbols[i] = symbols[i - 1];
        counts[symbols[i]]++;
    }
    if (dice(4) == 0) /* nearly all the same */
        for (size_t i = 0; i < n; i++)
            if (dice(40)) {
                counts[symbols[i]]--;
                symbols[i] = 128;
                counts[128]++;
            }
    if (counts[symbols[0]] == n) { /* the coders by themselves are for two symbols and more */
        counts[symbols[0]--]--;
        counts[symbols[0]]++;
    }
    return n;
}

static void seed_symbols(void)
{
    static uint8_t symbols[SEED_SYMBOLS + 2];
    static const uint32_t coders[] = {SZD_CODER_AUTO, SZD_CODER_HUFFMAN, SZD_CODER_RANS};
    uint32_t counts[256];
    size_t n = some_symbols(symbols, counts);
    writer w = seed_begin();
    write_u16(&w, (unsigned)n);
    if (dice(2)) {
        write_u8(&w, 1);
        symbol_counts counted;
        symbols_count(&counted, symbols, n, 8, 128, SZD_ISA_SCALAR, scratch);
        counted.may_be_sparse = true;
        symbols_encode_counted(&counted, SZD_CODER_AUTO, SZD_ISA_SCALAR, scratch, &w);
    } else {
        write_u8(&w, dice(2));
        symbols_encode(symbols, n, counts, coders[dice(3)], SZD_ISA_SCALAR, scratch, &w);
    }
    seed_end("symbols", &w);

    uint8_t lengths[256];
    w = seed_begin();
    write_u16(&w, (unsigned)n);
    huffman_fit(counts, lengths);
    huffman_write_lengths(lengths, &w);
    huffman_encode(symbols, n, SYMBOLS_AS_THEY_ARE, lengths, &w);
    seed_end("huffman", &w);

    freq_table t;
    unsigned lanes_log2 = dice(RANS_LANES_LOG2 + 1);
    rans_segment segment = {symbols, n, SYMBOLS_AS_THEY_ARE, &t};
    w = seed_begin();
    write_u16(&w, (unsigned)n);
    write_u16(&w, dice((uint32_t)n));
    write_u8(&w, lanes_log2);
    freqs_fit(counts, n, dice(2), &t);
    freqs_write(&t, FIRST_TOP, &w);
    rans_encode(&segment, 1, lanes_log2, NULL, SZD_ISA_SCALAR, scratch, 2 * n + 64, &w);
    seed_end("rans", &w);
}

static bool add_all(token_encoder *e, const int32_t *residuals, size_t n, const int32_t *sample, size_t seen,
                    bool palette)
{
    bool good = true;
    tokens_begin_encoding(e, sample, seen, n, palette, scratch);
    for (size_t done = 0; good && done < n; done += CHUNK)
        good = tokens_add(e, residuals + done, n - done < CHUNK ? n - done : CHUNK, SZD_ISA_SCALAR);
    return good;
}

static void seed_tokens(void)
{
    static int32_t residuals[SEED_SYMBOLS + 1], sample[TOKEN_SAMPLE];
    size_t n = 1 + dice(SEED_SYMBOLS), width = 8 + dice(200);
    unsigned shift = dice(31), wild = 1 + dice(500), common = dice(5);
    n = n > width ? n - n % width : n;
    for (size_t i = 0; i < n; i++) {
        int64_t z = (int32_t)noise(&state), magnitude = z >> (dice(wild) ? shift : 0);
        residuals[i] = common == 1 && dice(9) ? 5 : common == 2 ? (int32_t)dice(7) * 1000 : (int32_t)magnitude;
        if (common == 4 && dice(50)) /* sparse */
            residuals[i] = 5;
        if (common == 3)
            residuals[i] >>= i / width % 8 + i % width % 5;
    }
    token_encoder e;
    writer w = seed_begin();
    write_u16(&w, (unsigned)n - 1);
    write_u8(&w, 0);
    write_u16(&w, (unsigned)width);
    write_u16(&w, 0);
    size_t seen = tokens_sample(residuals, n, sample);
    if (!add_all(&e, residuals, n, sample, seen, true))
        CHECK(add_all(&e, residuals, n, sample, seen, false));
    tokens_finish(&e, width, SZD_CODER_AUTO, SZD_ISA_SCALAR, &w);
    seed_end("tokens", &w);

    w = seed_begin();
    size_t few = n < 255 ? n : 255; /* in the form of mix.c's small numbers */
    write_u16(&w, 8 * (unsigned)few + 1);
    write_u16(&w, 8 * (unsigned)width + 1);
    write_u16(&w, 0);
    write_u8(&w, 0);
    mix_encode(residuals, few, width, 0, scratch, &w);
    seed_end("mix", &w);
}

/* A plan that the format allows, its bytes at `bytes`; how many of them it used. */
static size_t some_plan(plan *p, uint8_t *bytes)
{
    for (;;) {
        for (unsigned i = 0; i < SEED_PLAN; i++)
            bytes[i] = (uint8_t)(dice(3) ? dice(256) : dice(4));
        reader r = {bytes, bytes + SEED_PLAN, false};
        if (plan_read(&r, p) && p->h.blocks && !r.failed)
            return (size_t)(r.at - bytes);
    }
}

static void seed_planes(const plan *p)
{
    unsigned bytes = p->h.element_bytes;
    bool rotate = dtype_of(p->h.dtype).is_float;
    size_t n = p->h.elements < 20000 ? (size_t)p->h.elements : 20000, width = dice(2) ? 10 + dice(100) : 0;
    unsigned log2 = bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3;
    n = width && n > width ? n - n % width : n;
    writer w = seed_begin();
    write_u16(&w, (unsigned)n - 1);
    write_u8(&w, rotate | (rotate ? log2 - 1 : log2) << 1 | 16);
    planes_encode(values, n, width, bytes, rotate, false, SZD_CODER_AUTO, SZD_ISA_SCALAR, scratch, &w);
    seed_end("planes", &w);
}

static size_t encode(plan *p, uint64_t block, writer *w)
{
    size_t bound = szd_block_bound(&p->h), size;
    int64_t saving;
    CHECK(bound <= writer_left(w) && szd_encode_scratch(&p->h) <= sizeof scratch);
    CHECK(szd_encode_block(&p->h, &p->options, values, block, scratch, sizeof scratch, w->at, bound, &size, &saving) ==
          SZD_OK);
    w->at += size;
    return size;
}

/* In the layout of small frames, where the plan allows that. */
static bool seed_small_frame(plan *p)
{
    static uint8_t block[SEED_BYTES];
    writer w = seed_begin(), b = {block, block + sizeof block, false};
    szd_header small = p->h;
    small.single = 1;
    CHECK(szd_header_complete(&small) == SZD_OK);
    if (!small.single)
        return false;
    size_t size = encode(p, 0, &b), total = (size_t)small.header_bytes + size + 4;
    if (total > SZD_MAX_SINGLE)
        return false;
    CHECK(szd_frame_single(&small, block, size, write_room(&w, total), total) == SZD_OK);
    seed_end("frame", &w);
    return true;
}

static void seed_frame(plan *p)
{
    static uint8_t index[PLAN_BLOCKS * SZD_INDEX_ENTRY];
    if (dice(2) && seed_small_frame(p))
        return;
    writer w = seed_begin();
    uint8_t *frame = write_room(&w, p->h.header_bytes);
    CHECK(frame);
    for (uint64_t b = 0; b < p->h.blocks; b++) {
        uint8_t *at = w.at;
        size_t size = encode(p, b, &w);
        store_u32(index + b * SZD_INDEX_ENTRY, (uint32_t)size);
        store_u32(index + b * SZD_INDEX_ENTRY + 4, szd_crc32c(at, size));
    }
    CHECK(szd_header_write(&p->h, index, frame, (size_t)p->h.header_bytes) == SZD_OK);
    seed_end("frame", &w);
}

static void seed_blocks(void)
{
    plan p;
    uint8_t bytes[SEED_PLAN];
    size_t used = some_plan(&p, bytes);
    reader r = {bytes + used, bytes + SEED_PLAN, false};
    fill(&r, &p.h, values);
    plan_reference(&p, SEEDS_REFERENCE, NULL, reference);
    if (p.options.reference && p.h.reference_dtype == p.h.dtype && dice(3))
        for (uint64_t i = 0; i < p.h.elements * p.h.element_bytes; i += p.h.element_bytes)
            put_near(values + i, reference + i, p.h.element_bytes, noise(&state));
    writer w = seed_begin();
    write_bytes(&w, bytes, SEED_PLAN);
    seed_end("roundtrip", &w);
    uint64_t block = dice((uint32_t)p.h.blocks);
    w = seed_begin();
    write_bytes(&w, bytes, used);
    write_u8(&w, (unsigned)block);
    encode(&p, block, &w);
    seed_end("block", &w);
    seed_planes(&p);
    seed_frame(&p);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s FOLDER [NUMBER]\n", argv[0]);
        return 2;
    }
    folder = argv[1];
    unsigned count = argc > 2 ? (unsigned)atoi(argv[2]) : 200;
    for (number = 0; number < count; number++) {
        seed_symbols();
        seed_tokens();
        seed_blocks();
    }
    printf("%u seeds for each target\n", count);
    return 0;
}
