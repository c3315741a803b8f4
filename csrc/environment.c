/* The floating-point environment for callers who compute bounds themselves, as one number. */
#include "fpenv.h"
#include "szdnn.h"

uint64_t szd_environment_enter(void)
{
    fp_environment saved = fp_enter();
    return (uint64_t)(unsigned)saved.rounding << 32 | (saved.control & UINT32_MAX); /* no control register uses more */
}

void szd_environment_leave(uint64_t saved) { fp_leave((fp_environment){(int)(saved >> 32), saved & UINT32_MAX}); }
