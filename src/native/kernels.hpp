// The interface of the compiled part, of which there is one copy for each instruction set.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace committee {

// Outputs of one model for some rows: `classes` numbers each, float32 or float64.
struct Table {
    const void *data;
    bool is_double;
};

// Sets of models of one size, in lexicographic order: `count` rows of `size` model numbers.
struct Sets {
    const int32_t *models;
    int64_t count;
    int64_t size;
};

enum class Measure { top_two, entropy };

// Where statistics go: set-major, `samples` numbers a set; `hit` says whether the class is right.
template <class Real>
struct Statistics {
    Real *first;
    Real *second;
    uint8_t *hit;
};

struct Sweep {
    // Of every prefix, one row each of `samples` numbers.
    const uint16_t *passed;   // how many candidate thresholds a sample's score reaches
    const void *values;       // what a sample scores by exiting here
    bool wide_values;         // int64 if true, else int8
    const int32_t *widths;    // candidate thresholds + 1, for "never"
    int64_t samples;
    // Sequences, all of the same number of stages.
    const int32_t *sequences; // (count, stages): the prefix after each stage
    const double *costs;      // (1 + bounds, count, stages): the cost that matters, then bounded ones
    int64_t count;
    int64_t stages;
    const double *limits;     // (bounds): most that a bounded cost may total
    int64_t bounds;
    // Known committees, by rising cost and value.
    const double *known_costs;
    const int64_t *known_values;
    int64_t known;
    // Ends the sweep as soon as it is not 0.
    const std::atomic<uint8_t> *stop;
};

// Points that no known committee clearly beats.
struct Points {
    std::vector<int32_t> sequence;
    std::vector<int32_t> choices; // (points, stages - 1): 0 is the lowest threshold
    std::vector<int64_t> reach;   // (points, stages): samples that run each stage
    std::vector<double> cost;
    std::vector<int64_t> value;
};

struct Kernels {
    int64_t lanes; // numbers of single precision in a vector
    // Means of logits, as products of exponentials; returns the largest absolute logit seen.
    double (*mean_logits)(const std::vector<Table> &, int64_t classes, const int64_t *labels,
                          const std::vector<Sets> &, Measure, int64_t rows, int64_t samples,
                          const std::vector<Statistics<float>> &);
    // Means of probabilities, of logits if `softmax`.
    void (*mean_probabilities)(const std::vector<Table> &, bool softmax, int64_t classes,
                               const int64_t *labels, const std::vector<Sets> &, int64_t rows,
                               int64_t samples, const std::vector<Statistics<double>> &);
    // How many of the rising numbers each score reaches.
    void (*reached)(const double *scores, int64_t samples, const double *rising, int64_t count,
                    uint16_t *out);
    Points (*sweep)(const Sweep &);
};

namespace generic { extern const Kernels kernels; }
#ifdef COMMITTEE_X86
namespace avx2 { extern const Kernels kernels; }
namespace avx512 { extern const Kernels kernels; }
#endif

} // namespace committee
