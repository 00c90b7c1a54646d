// `./dev bench reduce`: the sum of a gradient over 2 to 4 ranks on loopback: our ordered reduction,
// our ring, and Gloo, which PyTorch uses for the same on CPUs. One thread for each rank, real
// sockets, all sides in turn in the same run; the time is that of the last rank.
//
// Members of one machine move their bytes through shared memory, where Gloo takes TCP. What
// several machines would see is in the figures named sockets, where ours encrypt what they send and
// Gloo does not; and what the ciphers cost, in those named unencrypted: the same code, with
// libsodium's replaced by copies.
// docs/benchmarks.md says what the figures mean.
#include <dlfcn.h>
#include <gloo/allreduce.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/hash_store.h>
#include <gloo/transport/tcp/device.h>
#include <sodium.h>

#include <algorithm>
#include <barrier>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bench/figure.h"
#include "bench/measure.h"
#include "cluster/collective.h"
#include "cluster/ordered_reduction.h"

namespace {

bool encrypting = true;

template <class Cipher>
Cipher* of_libsodium(const char* name) {
  return reinterpret_cast<Cipher*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

// What libzmq encrypts and decrypts messages with; this program's own come before libsodium's. A
// cipher starts with a checksum of crypto_box_MACBYTES.
extern "C" int crypto_box_easy_afternm(unsigned char* cipher, const unsigned char* text,
                                       unsigned long long size, const unsigned char* nonce,
                                       const unsigned char* key) {
  static auto* const real =
      of_libsodium<decltype(crypto_box_easy_afternm)>("crypto_box_easy_afternm");
  if (encrypting) return real(cipher, text, size, nonce, key);
  std::memmove(cipher + crypto_box_MACBYTES, text, size);
  return 0;
}

extern "C" int crypto_box_open_easy_afternm(unsigned char* text, const unsigned char* cipher,
                                            unsigned long long size, const unsigned char* nonce,
                                            const unsigned char* key) {
  static auto* const real =
      of_libsodium<decltype(crypto_box_open_easy_afternm)>("crypto_box_open_easy_afternm");
  if (encrypting) return real(text, cipher, size, nonce, key);
  std::memmove(text, cipher + crypto_box_MACBYTES, size - crypto_box_MACBYTES);
  return 0;
}

namespace crabcast::cluster {
namespace {

using bench::Better;
using bench::must;

constexpr std::uint32_t kLanes = 4;
constexpr auto kPatience = std::chrono::seconds(60);
constexpr std::size_t kMiB = 1 << 20;

// One way to sum a gradient over all ranks.
class Contender {
 public:
  virtual ~Contender() = default;
  // Called by the thread of each rank at once. The sum is in the span that it returns.
  virtual std::span<const float> reduce(std::uint32_t rank, std::vector<float>& gradient) = 0;
};

// Communicators of our own, one a rank.
std::vector<std::unique_ptr<Collective>> form(std::vector<std::unique_ptr<CollectiveHost>>& hosts,
                                              std::uint32_t ranks, LocalPath path) {
  const auto keys = must(make_keyring());
  std::vector<CollectiveMember> members;
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    hosts.push_back(must(CollectiveHost::listen("tcp://127.0.0.1:*", keys, path)));
    members.push_back({"rank-" + std::to_string(rank), hosts.back()->endpoint()});
  }
  std::vector<std::unique_ptr<Collective>> formed(ranks);
  std::vector<std::jthread> threads;
  for (std::uint32_t rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      formed[rank] = must(hosts[rank]->form(1, rank, members, kPatience, kPatience));
    });
  threads.clear();
  return formed;
}

class Ring final : public Contender {
 public:
  Ring(std::uint32_t ranks, LocalPath path) : collectives_(form(hosts_, ranks, path)) {}
  std::span<const float> reduce(std::uint32_t rank, std::vector<float>& gradient) override {
    must(collectives_[rank]->all_reduce({gradient.data(), gradient.size() * sizeof(float),
                                         ElementType::float32, MemoryKind::host}));
    return gradient;
  }

 private:
  std::vector<std::unique_ptr<CollectiveHost>> hosts_;
  std::vector<std::unique_ptr<Collective>> collectives_;
};

// Each rank holds a lane or two; the sum of the two, which any reduction needs, is not counted.
class Ordered final : public Contender {
 public:
  Ordered(std::uint32_t ranks, LocalPath path)
      : collectives_(form(hosts_, ranks, path)), sums_(ranks) {
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      const std::uint32_t first = kLanes * rank / ranks;
      owned_.push_back({first, kLanes * (rank + 1) / ranks - first});
    }
  }
  std::span<const float> reduce(std::uint32_t rank, std::vector<float>& gradient) override {
    sums_[rank].resize(gradient.size());
    must(ordered_all_reduce(*collectives_[rank], kLanes, owned_, {&gradient, 1}, sums_[rank]));
    return sums_[rank];
  }

 private:
  std::vector<std::unique_ptr<CollectiveHost>> hosts_;
  std::vector<std::unique_ptr<Collective>> collectives_;
  std::vector<LaneRange> owned_;
  std::vector<std::vector<float>> sums_;
};

// As PyTorch's ProcessGroupGloo calls it: TCP, the algorithm that Gloo chooses itself.
class Gloo final : public Contender {
 public:
  explicit Gloo(std::uint32_t ranks) : contexts_(ranks) {
    gloo::rendezvous::HashStore store;
    std::vector<std::jthread> threads;
    for (std::uint32_t rank = 0; rank < ranks; ++rank)
      threads.emplace_back([&, rank] {
        auto context = std::make_shared<gloo::rendezvous::Context>(static_cast<int>(rank),
                                                                   static_cast<int>(ranks));
        auto device = gloo::transport::tcp::CreateDevice("127.0.0.1");
        context->connectFullMesh(store, device);
        contexts_[rank] = std::move(context);
      });
    threads.clear();
  }
  std::span<const float> reduce(std::uint32_t rank, std::vector<float>& gradient) override {
    gloo::AllreduceOptions options(contexts_[rank]);
    options.setOutput(gradient.data(), gradient.size());
    void (*const sum)(void*, const void*, const void*, std::size_t) = &gloo::sum<float>;
    options.setReduceFunction(sum);
    options.setTimeout(kPatience);
    gloo::allreduce(options);
    return gradient;
  }

 private:
  std::vector<std::shared_ptr<gloo::Context>> contexts_;
};

// Seconds of one reduction, of `times` in a row.
double measure(Contender& contender, std::vector<std::vector<float>>& gradients, int times) {
  const auto ranks = static_cast<std::uint32_t>(gradients.size());
  for (std::uint32_t rank = 0; rank < ranks; ++rank)
    std::fill(gradients[rank].begin(), gradients[rank].end(), static_cast<float>(rank + 1));
  std::vector<std::span<const float>> sums(ranks);
  std::barrier start(ranks + 1);
  std::vector<std::jthread> threads;
  for (std::uint32_t rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      start.arrive_and_wait();
      for (int i = 0; i < times; ++i) sums[rank] = contender.reduce(rank, gradients[rank]);
    });
  start.arrive_and_wait();
  const auto began = std::chrono::steady_clock::now();
  threads.clear();
  const double seconds = bench::since(began) / times;
  // In place, each reduction after the first multiplies by the ranks; powers differ by contender.
  const float first = sums[0].front();
  for (const auto sum : sums)
    if (!std::all_of(sum.begin(), sum.end(), [first](float value) { return value == first; }) ||
        (times == 1 && first != static_cast<float>(ranks * (ranks + 1) / 2)))
      throw std::runtime_error("a sum is wrong");
  return seconds;
}

void compare(std::uint32_t ranks, std::size_t mebibytes, LocalPath path, const char* name) {
  const int times = mebibytes == 1 ? 8 : 1;
  const int rounds = mebibytes > 64 ? 3 : 7;
  std::vector<std::vector<float>> gradients(ranks,
                                            std::vector<float>(mebibytes * kMiB / sizeof(float)));
  Ring ring(ranks, path);
  Ordered ordered(ranks, path);
  Gloo gloo(ranks);
  Contender* const contenders[] = {&ring, &ordered, &gloo};
  std::vector<double> times_of[3];
  for (int round = 0; round <= rounds; ++round)
    for (int i = 0; i < 3; ++i) {
      const double seconds = measure(*contenders[i], gradients, times);
      if (round > 0) times_of[i].push_back(seconds * 1e3);  // the first one warms up
    }
  const auto print = [&](const char* figure, int ours, int reference) {
    bench::print_figure(std::string(figure) + name + std::to_string(ranks) + "_ranks_" +
                            std::to_string(mebibytes) + "MiB",
                        bench::median(times_of[ours]), bench::median(times_of[reference]), "ms",
                        Better::less);
  };
  print("reduce_ring_against_gloo", 0, 2);
  print("reduce_ordered_against_ring", 1, 0);
}

}  // namespace
}  // namespace crabcast::cluster

int main() {
  using crabcast::cluster::LocalPath;
  try {
    for (const std::uint32_t ranks : {2U, 3U, 4U}) {
      for (const std::size_t mebibytes : {1, 16, 64, 256})
        crabcast::cluster::compare(ranks, mebibytes, LocalPath::shared_memory, "_");
      crabcast::cluster::compare(ranks, 64, LocalPath::sockets, "_sockets_");
      encrypting = false;
      crabcast::cluster::compare(ranks, 64, LocalPath::sockets, "_sockets_unencrypted_");
      encrypting = true;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench reduce: %s\n", error.what());
    return 1;
  }
  return 0;
}
