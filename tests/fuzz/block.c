/* Any bytes as a block under a header that is as it should be. */
#include "decode.h"
#include "values.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader r = {data, data + size, false};
    plan p;
    if (!plan_read(&r, &p) || !p.h.blocks)
        return 0;
    uint64_t block = read_u8(&r) % p.h.blocks;
    reader payload = guarded_input(0, r.at, reader_left(&r), size & 1);
    plan_reference(&p, SEEDS_REFERENCE, NULL, guarded(BUFFER_REFERENCE, (size_t)p.h.elements * 8, size & 1));
    CHECK(szd_decode_scratch(&p.h) <= scratch_allowed(&p.h, 8 * PLAN_MOST));
    block_input input = input_of(&p.h, block, payload.at, reader_left(&payload), p.options.reference);
    decode_all_ways(&input);
    return 0;
}
