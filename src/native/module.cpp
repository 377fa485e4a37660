// The compiled part of committee, for Python: checks shapes, lets go of the interpreter's lock, and
// calls the copy that this processor runs best.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <string>

#ifdef COMMITTEE_X86
#include <cpuid.h>
#include <immintrin.h>
#endif

#include "kernels.hpp"
#include "normalise.hpp"

namespace nb = nanobind;
using namespace committee;

template <class T, int dimensions>
using In = nb::ndarray<const T, nb::ndim<dimensions>, nb::c_contig, nb::device::cpu>;
template <class T, int dimensions>
using Out = nb::ndarray<T, nb::ndim<dimensions>, nb::c_contig, nb::device::cpu>;
typedef nb::ndarray<nb::ro, nb::ndim<2>, nb::c_contig, nb::device::cpu> Outputs;

// Products that underflow are worth nothing here, and as denormals would cost a hundred times more.
class FlushDenormals {
  public:
#ifdef COMMITTEE_X86
    FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(before_); }

  private:
    unsigned before_;
#else
    FlushDenormals() {}
#endif
};

static const Kernels *chosen = &generic::kernels;
static void (*chosen_normalise)(const Bytes &, float *) = &generic::normalise;
static std::string chosen_name = "generic";

#ifdef COMMITTEE_X86
// The register states that the operating system saves: 2 and 4 for AVX, 32, 64 and 128 for AVX-512.
static uint32_t saved_states() {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

// The compiler's own __builtin_cpu_supports needs a library that clang-cl does not link.
static void add_vector_copies(std::vector<std::string> &names) {
    unsigned a, b, c, d, features;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_FMA)) return;
    if (!__get_cpuid_count(7, 0, &a, &features, &c, &d) || !(features & bit_AVX2)) return;
    const uint32_t saved = saved_states();
    const unsigned wide = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if ((features & wide) == wide && (saved & 0xe6) == 0xe6) names.push_back("avx512");
    if ((saved & 0x06) == 0x06) names.push_back("avx2");
}
#endif

static std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
#ifdef COMMITTEE_X86
    add_vector_copies(names);
#endif
    names.push_back("generic");
    return names;
}

static std::string use(const std::string &name) {
    const std::string before = chosen_name;
    for (const std::string &known : instruction_sets())
        if (known == name) {
#ifdef COMMITTEE_X86
            if (name == "avx512") chosen = &avx512::kernels, chosen_normalise = &avx512::normalise;
            if (name == "avx2") chosen = &avx2::kernels, chosen_normalise = &avx2::normalise;
#endif
            if (name == "generic") chosen = &generic::kernels, chosen_normalise = &generic::normalise;
            chosen_name = name;
            return before;
        }
    throw std::invalid_argument("this processor does not run " + name);
}

static void require(bool holds, const char *what) {
    if (!holds) throw std::invalid_argument(what);
}

static std::vector<Table> tables_of(const std::vector<Outputs> &models, int64_t samples,
                                    int64_t classes) {
    std::vector<Table> tables;
    for (const Outputs &model : models) {
        const bool single = model.dtype() == nb::dtype<float>();
        require(single || model.dtype() == nb::dtype<double>(), "outputs: float32 or float64");
        require(int64_t(model.shape(0)) == samples && int64_t(model.shape(1)) == classes,
                "outputs: one shape for all models");
        tables.push_back({model.data(), !single});
    }
    return tables;
}

static std::vector<Sets> sets_of(const std::vector<In<int32_t, 2>> &sizes, size_t models) {
    std::vector<Sets> sets;
    for (const auto &size : sizes) {
        const int32_t *numbers = size.data();
        for (size_t i = 0; i < size.size(); ++i)
            require(numbers[i] >= 0 && size_t(numbers[i]) < models, "sets: no such model");
        require(size.shape(1) >= 1, "sets: empty set");
        sets.push_back({numbers, int64_t(size.shape(0)), int64_t(size.shape(1))});
    }
    return sets;
}

template <class Real>
static std::vector<Statistics<Real>> statistics_of(const std::vector<Sets> &sizes, int64_t samples,
                                                   int64_t offset,
                                                   const std::vector<Out<Real, 2>> &first,
                                                   const std::vector<Out<Real, 2>> &second,
                                                   const std::vector<Out<uint8_t, 2>> &hit) {
    require(first.size() == sizes.size() && second.size() == sizes.size() &&
                hit.size() == sizes.size(),
            "statistics: one array a size of sets");
    std::vector<Statistics<Real>> out;
    for (size_t k = 0; k < sizes.size(); ++k) {
        auto fits = [&](const auto &array) {
            return int64_t(array.shape(0)) == sizes[k].count && int64_t(array.shape(1)) == samples;
        };
        require(fits(first[k]) && fits(second[k]) && fits(hit[k]), "statistics: (sets, samples)");
        out.push_back({first[k].data() + offset, second[k].data() + offset, hit[k].data() + offset});
    }
    return out;
}

// What both kinds of means need of their arguments.
struct Given {
    std::vector<Table> tables;
    std::vector<Sets> sets;
    int64_t rows, classes, samples;
};

static Given given(const std::vector<Outputs> &models, const In<int64_t, 1> &labels,
                   const std::vector<In<int32_t, 2>> &sizes, int64_t offset, int64_t samples) {
    const int64_t rows = int64_t(labels.shape(0));
    require(!models.empty(), "outputs: no model");
    require(0 <= offset && offset + rows <= samples, "offset: out of range");
    const int64_t classes = int64_t(models[0].shape(1));
    require(classes > 0, "outputs: no classes");
    for (int64_t i = 0; i < rows; ++i)
        require(0 <= labels.data()[i] && labels.data()[i] < classes, "labels: out of range");
    return {tables_of(models, rows, classes), sets_of(sizes, models.size()), rows, classes, samples};
}

static double mean_logits(const std::vector<Outputs> &models, const In<int64_t, 1> &labels,
                          const std::vector<In<int32_t, 2>> &sizes, bool entropy, int64_t offset,
                          int64_t samples, const std::vector<Out<float, 2>> &first,
                          const std::vector<Out<float, 2>> &second,
                          const std::vector<Out<uint8_t, 2>> &hit) {
    const Given in = given(models, labels, sizes, offset, samples);
    const auto out = statistics_of<float>(in.sets, samples, offset, first, second, hit);
    nb::gil_scoped_release release;
    FlushDenormals flush;
    return chosen->mean_logits(in.tables, in.classes, labels.data(), in.sets,
                               entropy ? Measure::entropy : Measure::top_two, in.rows, samples, out);
}

static void mean_probabilities(const std::vector<Outputs> &models, bool softmax,
                               const In<int64_t, 1> &labels,
                               const std::vector<In<int32_t, 2>> &sizes, int64_t offset,
                               int64_t samples,
                               const std::vector<Out<double, 2>> &first,
                               const std::vector<Out<double, 2>> &second,
                               const std::vector<Out<uint8_t, 2>> &hit) {
    const Given in = given(models, labels, sizes, offset, samples);
    const auto out = statistics_of<double>(in.sets, samples, offset, first, second, hit);
    nb::gil_scoped_release release;
    FlushDenormals flush;
    chosen->mean_probabilities(in.tables, softmax, in.classes, labels.data(), in.sets, in.rows,
                               samples, out);
}

template <class T>
static nb::ndarray<nb::numpy, T> array(std::vector<T> &&numbers, std::vector<size_t> shape) {
    auto *kept = new std::vector<T>(std::move(numbers));
    nb::capsule owner(kept, [](void *p) noexcept { delete static_cast<std::vector<T> *>(p); });
    return nb::ndarray<nb::numpy, T>(kept->data(), shape.size(), shape.data(), owner);
}

static void reached(const In<double, 1> &scores, const In<double, 1> &rising,
                    const Out<uint16_t, 1> &out) {
    require(out.shape(0) == scores.shape(0), "out: one number a score");
    require(rising.shape(0) < 65536, "rising: fewer than 65,536");
    nb::gil_scoped_release release;
    chosen->reached(scores.data(), int64_t(scores.shape(0)), rising.data(),
                    int64_t(rising.shape(0)), out.data());
}

// A flag is one byte of an array, which other threads read and write as an atomic.
static_assert(sizeof(std::atomic<uint8_t>) == 1 && std::atomic<uint8_t>::is_always_lock_free);

static void halt(const Out<uint8_t, 1> &stop) {
    require(stop.shape(0) == 1, "stop: one number");
    reinterpret_cast<std::atomic<uint8_t> *>(stop.data())->store(1, std::memory_order_relaxed);
}

static nb::tuple sweep(const In<uint16_t, 2> &passed, const Outputs &values,
                       const In<int32_t, 1> &widths, const In<int32_t, 2> &sequences,
                       const In<double, 3> &costs, const In<double, 1> &limits,
                       const In<double, 1> &known_costs, const In<int64_t, 1> &known_values,
                       const In<uint8_t, 1> &stop) {
    Sweep in{};
    const size_t prefixes = passed.shape(0), samples = passed.shape(1);
    const bool wide = values.dtype() == nb::dtype<int64_t>();
    require(wide || values.dtype() == nb::dtype<int8_t>(), "values: int8 or int64");
    require(values.shape(0) == prefixes && values.shape(1) == samples && samples > 0,
            "values: (prefixes, samples)");
    require(samples < (size_t(1) << 31), "values: too many samples");
    require(widths.shape(0) == prefixes, "widths: (prefixes)");
    const size_t count = sequences.shape(0), stages = sequences.shape(1);
    require(1 <= stages && stages <= 64, "sequences: 1 to 64 stages");
    require(costs.shape(0) == 1 + limits.shape(0) && costs.shape(1) == count &&
                costs.shape(2) == stages,
            "costs: (1 + bounds, sequences, stages)");
    require(limits.shape(0) <= 64, "limits: at most 64");
    require(known_costs.shape(0) == known_values.shape(0), "known: one value a cost");
    for (size_t i = 0; i < count; ++i)
        for (size_t k = 0; k < stages; ++k) {
            const int32_t prefix = sequences.data()[i * stages + k];
            require(prefix >= 0 && size_t(prefix) < prefixes, "sequences: no such prefix");
        }
    in.passed = passed.data();
    in.values = values.data();
    in.wide_values = wide;
    in.widths = widths.data();
    in.samples = int64_t(samples);
    in.sequences = sequences.data();
    in.costs = costs.data();
    in.count = int64_t(count);
    in.stages = int64_t(stages);
    in.limits = limits.data();
    in.bounds = int64_t(limits.shape(0));
    in.known_costs = known_costs.data();
    in.known_values = known_values.data();
    require(stop.shape(0) == 1, "stop: one number");
    in.stop = reinterpret_cast<const std::atomic<uint8_t> *>(stop.data());
    in.known = int64_t(known_costs.shape(0));
    Points points;
    {
        nb::gil_scoped_release release;
        points = chosen->sweep(in);
    }
    const size_t found = points.cost.size();
    return nb::make_tuple(array(std::move(points.sequence), {found}),
                          array(std::move(points.choices), {found, stages - 1}),
                          array(std::move(points.reach), {found, stages}),
                          array(std::move(points.cost), {found}),
                          array(std::move(points.value), {found}));
}

// Below so many bytes another thread would hardly begin before this one is done.
static const size_t FEW_BYTES = 1 << 16;

static void normalise(const In<uint8_t, 4> &images, const In<float, 2> &scale_and_shift,
                      bool backwards, const Out<float, 4> &out) {
    const size_t given = images.shape(3), channels = out.shape(1);
    require(channels == 1 || channels == 3, "out: 1 or 3 channels");
    require(given == 1 || given == channels, "images: 1 channel or as many as the input");
    require(scale_and_shift.shape(0) == 2 && scale_and_shift.shape(1) == channels,
            "scale_and_shift: (2, channels)");
    require(out.shape(0) == images.shape(0) && out.shape(2) == images.shape(1) &&
                out.shape(3) == images.shape(2),
            "out: (images, channels, height, width)");
    const Bytes in{images.data(), int64_t(images.shape(0)),
                   int64_t(images.shape(1) * images.shape(2)), int64_t(given),
                   int64_t(channels), backwards, scale_and_shift.data(),
                   scale_and_shift.data() + channels};
    if (images.size() < FEW_BYTES) return chosen_normalise(in, out.data());
    nb::gil_scoped_release release;
    chosen_normalise(in, out.data());
}

// Mean of one row of logits of each model, in the order given, less its largest: what a softmax
// begins with. Returns the class of the largest; none if a number is not finite, or of a type or
// number of classes that is not taken here.
static std::optional<int64_t> lead(const std::vector<Outputs> &models, const Out<double, 2> &out) {
    const size_t classes = out.shape(1);
    require(out.shape(0) == 1 && classes > 0 && !models.empty(), "lead: one row of classes");
    double *mean = out.data();
    for (size_t k = 0; k < models.size(); ++k) {
        const Outputs &row = models[k];
        const bool single = row.dtype() == nb::dtype<float>();
        if (row.shape(0) != 1 || row.shape(1) != classes ||
            !(single || row.dtype() == nb::dtype<double>()))
            return std::nullopt;
        for (size_t c = 0; c < classes; ++c) {
            const double value = single ? double(static_cast<const float *>(row.data())[c])
                                        : static_cast<const double *>(row.data())[c];
            if (!std::isfinite(value)) return std::nullopt;
            mean[c] = k ? mean[c] + value : value;
        }
    }
    size_t best = 0;
    for (size_t c = 0; c < classes; ++c) {
        mean[c] /= double(models.size());
        if (mean[c] > mean[best]) best = c;
    }
    const double most = mean[best];
    for (size_t c = 0; c < classes; ++c)
        if (!std::isfinite(mean[c] -= most)) return std::nullopt;
    return int64_t(best);
}

NB_MODULE(_native, m) {
    use(instruction_sets().front());
    m.def("instruction_sets", &instruction_sets, "Copies that this processor runs, best first.");
    m.def("use", &use, nb::arg("name"), "Use one copy from now on; returns the one used before.");
    m.def("mean_logits", &mean_logits, nb::arg("models"), nb::arg("labels"), nb::arg("sizes"),
          nb::arg("entropy"), nb::arg("offset"), nb::arg("samples"), nb::arg("first").noconvert(),
          nb::arg("second").noconvert(), nb::arg("hit").noconvert(),
          "Statistics of means of logits; returns the largest absolute logit of the rows.");
    m.def("mean_probabilities", &mean_probabilities, nb::arg("models"), nb::arg("softmax"),
          nb::arg("labels"), nb::arg("sizes"), nb::arg("offset"), nb::arg("samples"),
          nb::arg("first").noconvert(), nb::arg("second").noconvert(), nb::arg("hit").noconvert(),
          "Statistics of means of probabilities.");
    m.def("reached", &reached, nb::arg("scores"), nb::arg("rising"), nb::arg("out").noconvert(),
          "How many of the rising numbers each score reaches.");
    m.def("sweep", &sweep, nb::arg("passed").noconvert(), nb::arg("values").noconvert(),
          nb::arg("widths"), nb::arg("sequences"), nb::arg("costs"), nb::arg("limits"),
          nb::arg("known_costs"), nb::arg("known_values"), nb::arg("stop").noconvert(),
          "Undominated threshold vectors of sequences: sequence, choices, reach, cost, value.");
    m.def("halt", &halt, nb::arg("stop").noconvert(), "End the sweeps that watch a flag.");
    m.def("lead", &lead, nb::arg("models"), nb::arg("out").noconvert(),
          "Mean of one row of each model less its largest, and the class of that; see module.cpp.");
    m.def("normalise", &normalise, nb::arg("images"), nb::arg("scale_and_shift"),
          nb::arg("backwards"), nb::arg("out").noconvert(),
          "Bytes (N, H, W, c) times scale plus shift, into (N, channels, H, W).");
    m.def("lanes", [] { return chosen->lanes; }, "Numbers of single precision in a vector.");
}
