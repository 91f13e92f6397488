/* Clocks, and histograms of latency. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <time.h>

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static double cpu_s(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

/* Log-linear: 128 steps for each doubling, so that a percentile is at most 0.8 % off. */
enum { STEP_BITS = 7, STEPS = 1 << STEP_BITS, BUCKETS = (64 - STEP_BITS) * STEPS };

struct histogram {
    long count[BUCKETS];
    long total;
    int64_t sum_ns, largest_ns;
};

static struct histogram quick, slow;

static int bucket_of(uint64_t ns)
{
    if (ns < STEPS) return (int)ns;
    int shift = 63 - __builtin_clzll(ns) - STEP_BITS;
    return (shift + 1) * STEPS + (int)((ns >> shift) - STEPS);
}

static int64_t upper_end_of(int bucket)
{
    if (bucket < STEPS) return bucket;
    int shift = bucket / STEPS - 1;
    return ((int64_t)(bucket % STEPS + STEPS + 1) << shift) - 1;
}

static void note(struct histogram *h, int64_t ns)
{
    if (ns < 0) ns = 0;
    h->count[bucket_of((uint64_t)ns)]++;
    h->total++;
    h->sum_ns += ns;
    if (ns > h->largest_ns) h->largest_ns = ns;
}

static double percentile_us(const struct histogram *h, double share)
{
    long wanted = (long)(share * (double)h->total + 0.999999), seen = 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        seen += h->count[bucket];
        if (seen >= wanted && seen > 0) {
            int64_t end = upper_end_of(bucket);
            return (double)(end < h->largest_ns ? end : h->largest_ns) / 1e3;
        }
    }
    return 0;
}

static void print_latency(const char *name, const struct histogram *h)
{
    if (h->total == 0) return;
    printf(", \"%s_count\": %ld, \"%s_mean_us\": %.3f, \"%s_p50_us\": %.3f, \"%s_p90_us\": %.3f, \"%s_p99_us\": %.3f, "
           "\"%s_p999_us\": %.3f, \"%s_max_us\": %.3f",
           name, h->total, name, (double)h->sum_ns / 1e3 / (double)h->total, name, percentile_us(h, 0.5), name,
           percentile_us(h, 0.9), name, percentile_us(h, 0.99), name, percentile_us(h, 0.999), name,
           (double)h->largest_ns / 1e3);
}
