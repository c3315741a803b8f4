/* The floating-point environment that every guarantee rests on: round to nearest, denormals neither flushed nor read as
 * zero (torch.set_flush_denormal and some math libraries change that). Entered and left by each public function. */
#ifndef SZD_FPENV_H
#define SZD_FPENV_H
#include <fenv.h>
#include <float.h>
#include <stdint.h>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#if defined(__FAST_MATH__) || FLT_EVAL_METHOD != 0
#error \
    "szdnn's guarantee needs IEEE arithmetic: no -ffast-math, no excess precision (on 32-bit x86 use -msse2 -mfpmath=sse)"
#endif

typedef struct fp_environment {
    int rounding;
    uint64_t control;
} fp_environment;

static inline fp_environment fp_enter(void)
{
    fp_environment saved = {fegetround(), 0};
    if (saved.rounding != FE_TONEAREST)
        fesetround(FE_TONEAREST);
#if defined(__SSE2__)
    saved.control = _mm_getcsr();
    /* nearest; flush-to-zero and denormals-are-zero off; no exception traps */
    _mm_setcsr(((unsigned)saved.control & ~0xe040u) | 0x1f80u);
#elif defined(__aarch64__)
    /* FZ, RMode, the trap enables, and FIZ and AH of newer ones */
    const uint64_t ours = (uint64_t)1 << 24 | (uint64_t)3 << 22 | (uint64_t)0x9f << 8 | 3;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved.control) : : "memory");
    __asm__ volatile("msr fpcr, %0" : : "r"(saved.control & ~ours) : "memory");
#endif
    return saved;
}

static inline void fp_leave(fp_environment saved)
{
#if defined(__SSE2__)
    _mm_setcsr((unsigned)saved.control);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(saved.control) : "memory");
#endif
    if (saved.rounding != FE_TONEAREST)
        fesetround(saved.rounding);
}
#endif
