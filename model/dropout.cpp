#include "model/dropout.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <bit>
#include <cmath>
#include <type_traits>

#include "model/cuda/kernels.h"
#include "model/random.h"

namespace crabcast::model {
namespace {

struct DropRule {
  explicit DropRule(double rate)
      : threshold(static_cast<std::uint32_t>(std::lround(rate * 65536))),
        keep_scale(static_cast<float>(65536.0 / (65536.0 - threshold))) {}
  std::uint32_t threshold;  // an element whose 16 bits are below is dropped
  float keep_scale;
};

// All bits set to keep an element, none to drop it: no branch that one element in ten mispredicts.
template <class T>
T masked(T value, bool keep) {
  using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t,
                                  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>>;
  const auto mask = static_cast<Bits>(-static_cast<Bits>(keep));
  return std::bit_cast<T>(static_cast<Bits>(std::bit_cast<Bits>(value) & mask));
}

// One 64-bit draw decides four neighbouring elements, 16 bits each.
constexpr std::int64_t kPerDraw = 4;
constexpr std::int64_t kDrawsForThread = 1 << 14;  // what is worth a thread

enum class Into { replace, add };

template <Into into, class T>
void put(T& place, T value) {
  place = into == Into::add ? static_cast<T>(place + value) : value;
}

// The draws from `begin` to `end`.
template <Into into, class T>
void drop_on_host(const T* x, T* out, std::int64_t begin, std::int64_t end, std::uint64_t key,
                  DropRule rule) {
  const T scale = static_cast<T>(rule.keep_scale);
  const std::uint32_t threshold = rule.threshold;
  x += begin * kPerDraw;
  out += begin * kPerDraw;
  for (std::int64_t draw = begin; draw < end; ++draw, x += kPerDraw, out += kPerDraw) {
    const std::uint64_t bits = random_bits(key, static_cast<std::uint64_t>(draw));
    for (int i = 0; i < kPerDraw; ++i)
      put<into>(out[i],
                masked(static_cast<T>(x[i] * scale), ((bits >> (16 * i)) & 0xFFFF) >= threshold));
  }
}

// What a last draw decides, if it is not of four elements.
template <Into into, class T>
void drop_rest(const T* x, T* out, std::int64_t count, std::uint64_t key, DropRule rule) {
  const T scale = static_cast<T>(rule.keep_scale);
  const std::int64_t whole = count / kPerDraw;
  const std::uint64_t bits = random_bits(key, static_cast<std::uint64_t>(whole));
  for (std::int64_t i = 0, at = whole * kPerDraw; at < count; ++i, ++at)
    put<into>(out[at], masked(static_cast<T>(x[at] * scale),
                              ((bits >> (16 * i)) & 0xFFFF) >= rule.threshold));
}

template <Into into>
void drop_all(const at::Tensor& in, const at::Tensor& out, std::uint64_t key, DropRule rule) {
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, in.scalar_type(), "dropout", [&] {
    const auto* from = in.const_data_ptr<scalar_t>();
    auto* to = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, in.numel() / kPerDraw, kDrawsForThread,
                     [&](std::int64_t begin, std::int64_t end) {
                       drop_on_host<into>(from, to, begin, end, key, rule);
                     });
    drop_rest<into>(from, to, in.numel(), key, rule);
  });
}

}  // namespace

at::Tensor dropout(const at::Tensor& x, const Dropout& dropout) {
  const DropRule rule(dropout.rate);
  if (rule.threshold == 0) return x;
  const at::Tensor in = x.contiguous();
  at::Tensor out = at::empty_like(in);
  if (in.is_cuda()) {
    cuda::dropout(in, dropout.key, rule.threshold, rule.keep_scale, out);
    return out;
  }
  drop_all<Into::replace>(in, out, dropout.key, rule);
  return out;
}

void add_dropped_(at::Tensor& sum, const at::Tensor& x, const Dropout& dropout) {
  const DropRule rule(dropout.rate);
  if (rule.threshold == 0 || x.is_cuda())
    sum.add_(model::dropout(x, dropout));
  else
    drop_all<Into::add>(x, sum, dropout.key, rule);
}

}  // namespace crabcast::model
