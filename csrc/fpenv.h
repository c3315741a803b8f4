/* The floating-point environment that every guarantee rests on: round to nearest, denormals neither flushed nor read as
 * zero (torch.set_flush_denormal and some math libraries change that). Entered and left by each public function. */
#ifndef SZD_FPENV_H
#define SZD_FPENV_H
#include <fenv.h>
#include <stdint.h>
#if defined(__SSE2__)
#include <xmmintrin.h>
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
    _mm_setcsr((unsigned)saved.control & ~0xe040u); /* nearest; flush-to-zero and denormals-are-zero off */
#elif defined(__aarch64__)
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved.control));
    __asm__ volatile("msr fpcr, %0" : : "r"(saved.control & ~((uint64_t)1 << 24 | (uint64_t)3 << 22)));
#endif
    return saved;
}

static inline void fp_leave(fp_environment saved)
{
#if defined(__SSE2__)
    _mm_setcsr((unsigned)saved.control);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(saved.control));
#endif
    if (saved.rounding != FE_TONEAREST)
        fesetround(saved.rounding);
}
#endif
