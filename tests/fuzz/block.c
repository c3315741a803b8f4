/* Any bytes as a block under a header that is as it should be. */
#include "decode.h"
#include "plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader r = {data, data + size, false};
    plan p;
    if (!plan_read(&r, &p) || !p.h.blocks)
        return 0;
    uint64_t block = read_u8(&r) % p.h.blocks;
    reader payload = guarded_input(0, r.at, reader_left(&r), size & 1);
    CHECK(szd_decode_scratch(&p.h) <= SCRATCH_MOST + 2 * 8 * PLAN_MOST + (p.h.mixed ? MIXING_MOST : 0));
    decode_all_ways(&p.h, block, payload.at, reader_left(&payload));
    return 0;
}
