// Vectors as wide as the registers of an instruction set.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace committee::COMMITTEE_ISA {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

template <class Number>
struct Lanes {
    static constexpr int count = vector_bytes / sizeof(Number);
    typedef Number Vector __attribute__((vector_size(vector_bytes)));

    static Vector load(const Number *from) {
        Vector vector;
        std::memcpy(&vector, from, sizeof vector);
        return vector;
    }
    static void store(Number *to, Vector vector) { std::memcpy(to, &vector, sizeof vector); }
    static Vector larger(Vector a, Vector b) { return a > b ? a : b; }
    static Vector smaller(Vector a, Vector b) { return a < b ? a : b; }
};

// Compilers make a comparison and a choice of the above; these are one instruction.
#if defined(__AVX512F__)
template <> inline Lanes<float>::Vector Lanes<float>::larger(Vector a, Vector b) {
    return (Vector)_mm512_max_ps((__m512)a, (__m512)b);
}
template <> inline Lanes<float>::Vector Lanes<float>::smaller(Vector a, Vector b) {
    return (Vector)_mm512_min_ps((__m512)a, (__m512)b);
}
template <> inline Lanes<double>::Vector Lanes<double>::larger(Vector a, Vector b) {
    return (Vector)_mm512_max_pd((__m512d)a, (__m512d)b);
}
template <> inline Lanes<double>::Vector Lanes<double>::smaller(Vector a, Vector b) {
    return (Vector)_mm512_min_pd((__m512d)a, (__m512d)b);
}
template <> inline Lanes<int32_t>::Vector Lanes<int32_t>::larger(Vector a, Vector b) {
    return (Vector)_mm512_max_epi32((__m512i)a, (__m512i)b);
}
template <> inline Lanes<int16_t>::Vector Lanes<int16_t>::larger(Vector a, Vector b) {
    return (Vector)_mm512_max_epi16((__m512i)a, (__m512i)b);
}
// a * b + c, rounded once.
inline Lanes<float>::Vector fused(Lanes<float>::Vector a, float b, Lanes<float>::Vector c) {
    return (Lanes<float>::Vector)_mm512_fmadd_ps((__m512)a, _mm512_set1_ps(b), (__m512)c);
}
#elif defined(__AVX2__)
template <> inline Lanes<float>::Vector Lanes<float>::larger(Vector a, Vector b) {
    return (Vector)_mm256_max_ps((__m256)a, (__m256)b);
}
template <> inline Lanes<float>::Vector Lanes<float>::smaller(Vector a, Vector b) {
    return (Vector)_mm256_min_ps((__m256)a, (__m256)b);
}
template <> inline Lanes<double>::Vector Lanes<double>::larger(Vector a, Vector b) {
    return (Vector)_mm256_max_pd((__m256d)a, (__m256d)b);
}
template <> inline Lanes<double>::Vector Lanes<double>::smaller(Vector a, Vector b) {
    return (Vector)_mm256_min_pd((__m256d)a, (__m256d)b);
}
template <> inline Lanes<int32_t>::Vector Lanes<int32_t>::larger(Vector a, Vector b) {
    return (Vector)_mm256_max_epi32((__m256i)a, (__m256i)b);
}
template <> inline Lanes<int16_t>::Vector Lanes<int16_t>::larger(Vector a, Vector b) {
    return (Vector)_mm256_max_epi16((__m256i)a, (__m256i)b);
}
// a * b + c, rounded once.
inline Lanes<float>::Vector fused(Lanes<float>::Vector a, float b, Lanes<float>::Vector c) {
    return (Lanes<float>::Vector)_mm256_fmadd_ps((__m256)a, _mm256_set1_ps(b), (__m256)c);
}
#endif

} // namespace committee::COMMITTEE_ISA
