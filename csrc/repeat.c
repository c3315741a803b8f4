/* What repeats itself: a lattice integer predicted by the one `lag` places before (FORMAT.md, section 12), and how such
 * a lag is found.
 *
 * A run of values that comes again d places later is found without looking at every value: runs are hashed at `small`
 * places side by side, then at multiples of `small`. Whatever d is, one of the latter lies d behind one of the former
 * (baby steps and giant steps, Shanks 1971): about 2 sqrt(most) runs for all lags up to `most`.
 */
#include "fpenv.h"
#include "internal.h"

enum {
    RUN = 16,
    ANCHORS = 2,
    CANDIDATES = 32,
    CHECKS = 64,
    LEAST_CHECKS = CHECKS / 4,
    SLOTS_LOG2 = 10,
    MOST_STEPS = 512,
    AHEAD = 16
};

typedef struct run_table {
    uint32_t place[1 << SLOTS_LOG2]; /* and 1; 0 where there is none */
    uint64_t hash[1 << SLOTS_LOG2];
} run_table;

typedef struct lag_list {
    unsigned count;
    uint64_t lags[CANDIDATES];
} lag_list;

static uint64_t hash_run(const uint8_t *p, unsigned bytes)
{
    uint64_t h = 0, key = 0x9E3779B97F4A7C15;
    for (unsigned i = 0; i < RUN * bytes;
         i += 16, key += 0x3C6EF372FE94F82A) /* the products do not wait for each other */
        h += (load_u64(p + i) ^ key) * 0xBF58476D1CE4E5B9 + (load_u64(p + i + 8) + key) * 0x94D049BB133111EB;
    h ^= h >> 32;
    return h * 0xD6E8FEB86659FD93;
}

/* Runs of one value say nothing. */
static bool is_flat(const uint8_t *p, unsigned bytes) { return memcmp(p, p + bytes, (RUN - 1) * bytes) == 0; }

/* Those that are kept are the shortest. */
static void add_lag(lag_list *list, uint64_t lag)
{
    unsigned i = list->count < CANDIDATES ? list->count++ : CANDIDATES;
    if (i == CANDIDATES && lag >= list->lags[--i])
        return;
    for (; i > 0 && list->lags[i - 1] > lag; i--)
        list->lags[i] = list->lags[i - 1];
    list->lags[i] = lag;
}

/* The place of an equal run, or -1, where it is put if it is one of the small steps. */
static int64_t look_up(run_table *t, uint64_t hash, uint32_t place, bool put)
{
    uint32_t slot = (uint32_t)(hash >> (64 - SLOTS_LOG2));
    for (; t->place[slot]; slot = (slot + 1) & ((1u << SLOTS_LOG2) - 1))
        if (t->hash[slot] == hash) {
            int64_t found = t->place[slot] - 1;
            if (put)
                t->place[slot] = place + 1;
            return found;
        }
    if (put) {
        t->place[slot] = place + 1;
        t->hash[slot] = hash;
    }
    return -1;
}

/* The lags up to `most` at which the runs about an anchor come again. */
static void look_about(const uint8_t *anchor, uint64_t most, unsigned bytes, run_table *t, lag_list *list)
{
    uint32_t small = 1;
    while (small < MOST_STEPS && (uint64_t)small * small < most)
        small++;
    memset(t->place, 0, sizeof t->place);
    for (uint64_t at = 0; at < most + small; at += at < small ? 1 : small) {
        if (at >= small && at + (uint64_t)AHEAD * small < most + small)
            __builtin_prefetch(anchor + (at + (uint64_t)AHEAD * small) * bytes); /* far apart */
        int64_t found = look_up(t, hash_run(anchor + at * bytes, bytes), (uint32_t)at, at < small);
        if (found >= 0 && (uint64_t)found < at && at - (uint64_t)found <= most && !is_flat(anchor + at * bytes, bytes))
            add_lag(list, at - (uint64_t)found);
    }
}

/* In how many of CHECKS places a run comes again after this lag. */
static unsigned confirm(const uint8_t *data, uint64_t n, unsigned bytes, uint64_t lag)
{
    unsigned same = 0;
    uint64_t places = n - lag - RUN;
    for (unsigned i = 0; i < CHECKS; i++) {
        const uint8_t *p = data + (places / CHECKS * i + places % CHECKS * i / CHECKS) * bytes;
        same += memcmp(p, p + lag * bytes, RUN * bytes) == 0 && !is_flat(p, bytes);
    }
    return same;
}

uint64_t szd_find_lag(uint32_t dtype, const uint8_t *data, uint64_t count)
{
    dtype_info info = dtype_of(dtype);
    uint64_t n = count, most = n / 2 < SZD_MAX_LAG ? n / 2 : SZD_MAX_LAG, best = 0;
    unsigned bytes = info.element_bytes, same = LEAST_CHECKS - 1;
    run_table t;
    lag_list list = {0};
    if (!bytes || most < 4 * RUN)
        return 0;
    for (unsigned a = 0; a < ANCHORS; a++)
        look_about(data + (n - most - RUN) / ANCHORS / 2 * a * bytes, most, bytes, &t, &list);
    for (unsigned i = 0; i < list.count; i++) {
        unsigned found = i && list.lags[i] == list.lags[i - 1] ? 0 : confirm(data, n, bytes, list.lags[i]);
        if (found > same) {
            same = found + CHECKS / 8; /* longer lags, such as multiples, must be clearly better */
            best = list.lags[i];
        }
    }
    return best;
}

/* Each less the one `lag` before it, the first ones as they are. */
void repeat_forward(int32_t *q, size_t n, size_t lag)
{
    uint32_t *u = (uint32_t *)q;
    for (size_t i = n; i-- > lag;)
        u[i] -= u[i - lag];
}

/* The next n values, of which the last `lag` are in `ring`; *at is where the oldest is. */
void repeat_backward(int32_t *q, size_t n, uint32_t *ring, size_t lag, size_t *at)
{
    uint32_t *u = (uint32_t *)q;
    for (size_t done = 0; done < n;) {
        size_t part = n - done < lag - *at ? n - done : lag - *at;
        for (size_t i = 0; i < part; i++)
            ring[*at + i] = u[done + i] += ring[*at + i];
        done += part;
        *at = *at + part == lag ? 0 : *at + part;
    }
}

enum { SAMPLE_RUNS = 64, SAMPLE_RUN = 64, SAMPLE = SAMPLE_RUNS * SAMPLE_RUN };

size_t repeat_estimate_scratch(void) { return sizeof(lattice) + 3 * 4 * SAMPLE + tokens_scratch(SAMPLE) + 6 * 64; }

static void quantize_at(const lattice *l, const uint8_t *data, uint64_t first, int32_t q[SAMPLE_RUN], uint8_t *bad)
{
    uint32_t low[SAMPLE_RUN];
    unsigned bytes = dtype_of(l->dtype).element_bytes;
    if (lattice_quantize(l, data + first * bytes, first, SAMPLE_RUN, q, low, bad))
        for (unsigned i = 0; i < SAMPLE_RUN; i++)
            q[i] = bad[i] ? 0 : q[i];
}

int szd_estimate_repeat(const szd_header *h, const szd_options *options, const uint8_t *data, uint8_t *scratch,
                        size_t scratch_size, double *bits)
{
    if (scratch_size < repeat_estimate_scratch() || h->predictor != SZD_PREDICT_REPEAT || h->kind == SZD_LOSSLESS ||
        h->elements < h->lag + SAMPLE_RUN)
        return SZD_ARGUMENT;
    fp_environment saved = fp_enter();
    lattice *l = take(&scratch, sizeof *l);
    int32_t *q = take(&scratch, 4 * SAMPLE), *r = take(&scratch, 4 * SAMPLE);
    uint8_t bad[SAMPLE_RUN], *rest = aligned64(scratch);
    uint64_t places = h->elements - h->lag - SAMPLE_RUN;
    lattice_begin(l, h, options->isa);
    for (unsigned k = 0; k < SAMPLE_RUNS; k++) {
        uint64_t at = places / SAMPLE_RUNS * k + places % SAMPLE_RUNS * k / SAMPLE_RUNS;
        int32_t before[SAMPLE_RUN];
        quantize_at(l, data, at, before, bad);
        quantize_at(l, data, at + h->lag, q + k * SAMPLE_RUN, bad);
        for (unsigned i = 0; i < SAMPLE_RUN; i++)
            r[k * SAMPLE_RUN + i] = (int32_t)((uint32_t)q[k * SAMPLE_RUN + i] - (uint32_t)before[i]);
    }
    double plain = (double)tokens_estimate(q, SAMPLE, l->isa, rest) / 65536 / SAMPLE;
    double repeated = (double)tokens_estimate(r, SAMPLE, l->isa, rest) / 65536 / SAMPLE;
    double head =
        h->lag < h->tile[0] ? (double)h->lag / (double)h->tile[0] : 1; /* of a block, which is not predicted */
    bits[0] = plain;
    bits[1] = head * plain + (1 - head) * repeated;
    fp_leave(saved);
    return SZD_OK;
}
