// What tests of any collective share: buffers, the members of a job over ZeroMQ, one thread each,
// and exchanges that check what came.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cluster/collective.h"
#include "tests/cluster/transport_fixture.h"

namespace crabcast::cluster {

template <class T>
Buffer buffer_of(std::vector<T>& values, ElementType type = ElementType::uint8) {
  return {values.data(), values.size() * sizeof(T), type, MemoryKind::host};
}

// The hosts of one job's members, named worker-0, worker-1, ...
struct Cast {
  explicit Cast(std::uint32_t size, LocalPath local = LocalPath::shared_memory) {
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      hosts.push_back(CollectiveHost::listen("tcp://127.0.0.1:*", test_keys(), local).value());
      members.push_back({"worker-" + std::to_string(rank), hosts.back()->endpoint()});
    }
  }
  Result<std::unique_ptr<Collective>> form(std::uint32_t rank, std::uint64_t generation = 1,
                                           Duration operation_timeout = kPatience) {
    return hosts[rank]->form(generation, rank, members, kPatience, operation_timeout);
  }
  // Runs `body` as every rank, each on its own thread.
  void run(std::uint64_t generation, const std::function<void(Collective&)>& body,
           Duration operation_timeout = kPatience) {
    std::vector<std::jthread> threads;
    for (std::uint32_t rank = 0; rank < hosts.size(); ++rank)
      threads.emplace_back([&, rank] {
        auto formed = form(rank, generation, operation_timeout);
        ASSERT_TRUE(formed) << formed.error().message;
        body(**formed);
      });
  }
  std::vector<std::unique_ptr<CollectiveHost>> hosts;
  std::vector<CollectiveMember> members;
};

// As one rank: sends every other one a parcel and checks those that come. Sizes differ for each
// pair; some are empty, and the `largest` should take many pieces.
inline void exchange_parcels(Collective& ranks, std::size_t largest) {
  const auto parcel = [largest](std::uint32_t from, std::uint32_t to) {
    const std::array<std::size_t, 5> sizes = {0, 1, 1000, largest / 30, largest};
    std::vector<std::uint8_t> bytes(sizes[(from * 3 + to * 2) % sizes.size()]);
    for (std::size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::uint8_t>(i * 31 + i / 251 + from * 7 + to);
    return bytes;
  };
  std::vector<std::vector<std::uint8_t>> out, in;
  std::vector<Buffer> send, receive;
  for (std::uint32_t peer = 0; peer < ranks.size(); ++peer) {
    out.push_back(parcel(ranks.rank(), peer));
    in.emplace_back(parcel(peer, ranks.rank()).size(), 0xee);
  }
  for (std::uint32_t peer = 0; peer < ranks.size(); ++peer) {
    send.push_back(buffer_of(out[peer]));
    receive.push_back(buffer_of(in[peer]));
  }
  const auto moved = ranks.all_to_all(send, receive);
  ASSERT_TRUE(moved) << moved.error().message;
  for (std::uint32_t peer = 0; peer < ranks.size(); ++peer)
    EXPECT_TRUE(in[peer] == parcel(peer, ranks.rank())) << peer << " to " << ranks.rank();
}

// As one rank: each has another number of elements.
inline void gather_parts(Collective& ranks) {
  const auto of = [](std::uint32_t rank) {
    return std::vector<std::int64_t>(1000 * (rank + 1), rank * 11);
  };
  auto mine = of(ranks.rank());
  std::vector<std::vector<std::int64_t>> in;
  std::vector<Buffer> receive;
  for (std::uint32_t peer = 0; peer < ranks.size(); ++peer) in.emplace_back(of(peer).size(), -1);
  for (auto& values : in) receive.push_back(buffer_of(values, ElementType::int64));
  const auto gathered = ranks.all_gather(buffer_of(mine, ElementType::int64), receive);
  ASSERT_TRUE(gathered) << gathered.error().message;
  for (std::uint32_t peer = 0; peer < ranks.size(); ++peer) EXPECT_EQ(in[peer], of(peer));
}

}  // namespace crabcast::cluster
