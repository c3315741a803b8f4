/* Any bytes as a frame: first as they are, then with the header's checksum put right, as a forger would. */
#include "decode.h"
#include "values.h"

enum { SHORT = 100 };                      /* bytes of a frame that takes 1 MB at most, whatever it says */
static const size_t OUTPUT_MOST = 1 << 17; /* what a caller's max_bytes would allow */

/* Tiles beyond the default have scratch for classes that streams of fewer than 256 bytes do not touch: there, what is
 * touched is within the limit (tests/test_sparse_streams.py). */
static size_t untouched(const szd_header *h)
{
    const uint64_t n = largest_tile(h) < SZD_LONG_TILE ? largest_tile(h) : SZD_LONG_TILE;
    return n > SZD_DEFAULT_TILE ? (size_t)(n - SZD_DEFAULT_TILE) * 9 / 4 : 0;
}

static bool is_small(const uint8_t *frame, size_t size) { return size > 8 && frame[0] == 0xF5 && frame[1] == 's'; }

static void forge_header_crc(uint8_t *frame, size_t size)
{
    if (is_small(frame, size)) {
        store_u16(frame + 3, (uint16_t)(size - 1));
        store_u32(frame + size - 4, szd_crc32c(frame, size - 4));
        return;
    }
    reader r = {frame + PROLOGUE, frame + size, false};
    uint64_t header_bytes = size > PROLOGUE ? read_varint(&r) : 0;
    if (r.failed || header_bytes > size || header_bytes < (size_t)(r.at - frame) + 4)
        return;
    store_u32(frame + header_bytes - 4, szd_crc32c(frame, (size_t)header_bytes - 4));
}

static void decode(const uint8_t *frame, size_t size)
{
    szd_header h;
    if (szd_header_read(frame, size, &h) != SZD_OK)
        return;
    CHECK(h.header_bytes <= size && h.blocks <= (h.single ? 1 : size / SZD_INDEX_ENTRY));
    CHECK(h.elements == 0 || h.elements <= ((uint64_t)1 << 60) / h.element_bytes);
    CHECK(h.blocks == 0 || szd_decode_scratch(&h) <=
                               (size > SHORT ? scratch_allowed(&h, size) : SCRATCH_MOST + 2 * size) + untouched(&h));
    if (h.elements * h.element_bytes > OUTPUT_MOST || largest_tile(&h) * h.element_bytes > OUTPUT_MOST)
        return;
    uint8_t *reference = NULL;
    if (h.predictor == SZD_PREDICT_REFERENCE) {
        reference = guarded(BUFFER_REFERENCE, (size_t)h.elements * 8, size & 1);
        fill_reference(&h, SEEDS_REFERENCE, NULL, reference);
    }
    if (h.single) {
        if (h.blocks) {
            block_input input = input_of(&h, 0, frame + h.header_bytes, size - (size_t)h.header_bytes - 4, reference);
            decode_all_ways(&input);
        }
        return;
    }
    const uint8_t *index = frame + h.header_bytes - 4 - SZD_INDEX_ENTRY * h.blocks, *at = frame + h.header_bytes;
    for (uint64_t b = 0; b < h.blocks; b++) {
        size_t length = load_u32(index + SZD_INDEX_ENTRY * b);
        CHECK(length <= (size_t)(frame + size - at));
        block_input input = input_of(&h, b, at, length, reference);
        decode_all_ways(&input);
        at += length;
    }
    CHECK(at == frame + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader r = guarded_input(0, data, size, size & 1);
    uint8_t *frame = guarded(0, size, size & 1);
    decode(r.at, size);
    forge_header_crc(frame, size);
    decode(frame, size);
    return 0;
}
