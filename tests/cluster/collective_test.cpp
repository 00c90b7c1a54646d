// Collectives over ZeroMQ on loopback, with CURVE: one thread for each rank, and real processes
// where one is to die.
#include "cluster/collective.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <functional>
#include <future>
#include <numeric>
#include <random>
#include <thread>
#include <zmq.hpp>

#include "cluster/collective_wire.h"
#include "cluster/curve.h"
#include "cluster/ordered_reduction.h"
#include "tests/cluster/collective_cast.h"

namespace crabcast::cluster {
namespace {

using std::chrono::milliseconds;

using RanksAndPath = std::tuple<std::uint32_t, LocalPath>;

class Collectives : public ::testing::TestWithParam<RanksAndPath> {
 protected:
  std::uint32_t size_ = std::get<0>(GetParam());
  LocalPath path_ = std::get<1>(GetParam());
};

std::string name_of(const ::testing::TestParamInfo<RanksAndPath>& info) {
  const auto [size, path] = info.param;
  return std::to_string(size) + (path == LocalPath::sockets ? "_sockets" : "_shared_memory");
}

TEST_P(Collectives, AllToAll) {
  Cast cast(size_, path_);
  cast.run(1, [](Collective& ranks) { exchange_parcels(ranks, 9'000'001); });
}

TEST_P(Collectives, AllGather) {
  Cast cast(size_, path_);
  cast.run(1, gather_parts);
}

TEST_P(Collectives, AllReduce) {
  Cast cast(size_, path_);
  cast.run(1, [](Collective& ranks) {
    for (const std::size_t elements : {1u, 5u, 1000u, (4u << 20) + 77u}) {
      // Whole numbers, so that the sum is exact in any order.
      std::vector<float> values(elements);
      for (std::size_t i = 0; i < elements; ++i)
        values[i] = static_cast<float>(i % 1000 + ranks.rank());
      ASSERT_TRUE(ranks.all_reduce(buffer_of(values, ElementType::float32)));
      const std::uint32_t n = ranks.size();
      for (std::size_t i = 0; i < elements; ++i)
        ASSERT_EQ(values[i], static_cast<float>(i % 1000 * n + n * (n - 1) / 2)) << i;
    }
    std::vector<std::uint8_t> bytes(4);
    EXPECT_EQ(ranks.all_reduce(buffer_of(bytes)).error().code, Errc::invalid_argument);
  });
}

TEST_P(Collectives, BroadcastFromEveryRoot) {
  Cast cast(size_, path_);
  cast.run(1, [](Collective& ranks) {
    for (const std::size_t bytes : {0u, 3u, 5000001u})
      for (std::uint32_t root = 0; root < ranks.size(); ++root) {
        const auto expected = [&] {
          std::vector<std::uint8_t> values(bytes);
          std::iota(values.begin(), values.end(), static_cast<std::uint8_t>(root));
          return values;
        }();
        auto values = ranks.rank() == root ? expected : std::vector<std::uint8_t>(bytes, 0xee);
        ASSERT_TRUE(ranks.broadcast(buffer_of(values), root));
        ASSERT_TRUE(values == expected) << bytes << " bytes from " << root;
      }
    std::vector<std::uint8_t> none;
    EXPECT_EQ(ranks.broadcast(buffer_of(none), ranks.size()).error().code, Errc::invalid_argument);
  });
}

TEST_P(Collectives, OrderedSumHasTheSameBitsForEveryNumberOfMembers) {
  constexpr std::uint32_t kLanes = 6;
  constexpr std::size_t kElements = 100003;
  std::mt19937 random(9);
  std::uniform_real_distribution<float> values(-1e3f, 1e3f);
  std::vector<std::vector<float>> lanes(kLanes, std::vector<float>(kElements));
  for (auto& lane : lanes)
    for (float& value : lane) value = values(random);
  SubtreeAccumulator alone(kLanes, {0, kLanes}, kElements);
  for (const auto& lane : lanes) alone.add_lane(lane);
  const auto expected = alone.sums().front();

  Cast cast(size_, path_);
  std::vector<LaneRange> owned;
  for (std::uint32_t rank = 0, n = size_; rank < n; ++rank)
    owned.push_back({kLanes * rank / n, kLanes * (rank + 1) / n - kLanes * rank / n});
  cast.run(1, [&](Collective& ranks) {
    const LaneRange mine = owned[ranks.rank()];
    SubtreeAccumulator accumulator(kLanes, mine, kElements);
    for (std::uint32_t lane = mine.first; lane < mine.first + mine.count; ++lane)
      accumulator.add_lane(lanes[lane]);
    std::vector<float> sum(kElements);
    const auto reduced = ordered_all_reduce(ranks, kLanes, owned, accumulator.sums(), sum);
    ASSERT_TRUE(reduced) << reduced.error().message;
    EXPECT_EQ(std::memcmp(sum.data(), expected.data(), kElements * sizeof(float)), 0);
  });
}

TEST_P(Collectives, ManyOperationsAndGenerationsStayInStep) {
  Cast cast(size_, path_);
  for (std::uint64_t generation = 3; generation < 6; ++generation)
    cast.run(generation, [&](Collective& ranks) {
      for (std::uint32_t i = 0; i < 100; ++i) {
        // One rank is always ahead or behind: nothing but the credits keeps them in step.
        std::vector<std::uint32_t> value{i * 10 + ranks.rank()}, in(ranks.size());
        std::vector<Buffer> receive;
        for (auto& slot : in) receive.push_back({&slot, sizeof slot});
        ASSERT_TRUE(ranks.all_gather(buffer_of(value), receive));
        for (std::uint32_t peer = 0; peer < ranks.size(); ++peer)
          ASSERT_EQ(in[peer], i * 10 + peer);
        ASSERT_TRUE(ranks.broadcast(buffer_of(value), i % ranks.size()));
        ASSERT_EQ(value[0], i * 10 + i % ranks.size());
      }
    });
}

INSTANTIATE_TEST_SUITE_P(Ranks, Collectives,
                         ::testing::Combine(::testing::Values(1, 2, 3, 4),
                                            ::testing::Values(LocalPath::shared_memory,
                                                              LocalPath::sockets)),
                         name_of);

TEST(CollectivePaths, MembersThatCannotShareMemoryUseSockets) {
  Cast cast(3);
  cast.hosts[1] =
      CollectiveHost::listen("tcp://127.0.0.1:*", test_keys(), LocalPath::sockets).value();
  cast.members[1].endpoint = cast.hosts[1]->endpoint();
  cast.run(1, [](Collective& ranks) { exchange_parcels(ranks, 9'000'001); });
}

// ---- Failure ----

TEST(CollectiveFailure, AbortWakesABlockedOperationAndTellsTheOthers) {
  Cast cast(3);
  std::atomic<int> inside{0};
  std::promise<Collective*> blocked;
  std::promise<void> told;
  auto finished = told.get_future().share();
  std::thread aborter([&] {
    Collective* ranks = blocked.get_future().get();
    while (inside < 3) std::this_thread::yield();  // all have formed
    ranks->abort("a new generation comes");
  });
  cast.run(1, [&](Collective& ranks) {
    ++inside;
    if (ranks.rank() == 2) {
      finished.wait();  // never takes part
      return;
    }
    if (ranks.rank() == 0) blocked.set_value(&ranks);
    std::vector<float> values(1000, 1.0f);
    const TimePoint began = Clock::now();
    const auto reduced = ranks.all_reduce(buffer_of(values, ElementType::float32));
    ASSERT_FALSE(reduced);
    EXPECT_LT(seconds(Clock::now() - began), 10) << "it waited for its timeout";
    if (ranks.rank() == 0) {
      EXPECT_EQ(reduced.error().code, Errc::cancelled);
      EXPECT_NE(reduced.error().message.find("a new generation comes"), std::string::npos);
    } else {
      EXPECT_EQ(reduced.error().code, Errc::unavailable);
      EXPECT_NE(reduced.error().message.find("worker-0 left"), std::string::npos)
          << reduced.error().message;
      told.set_value();
    }
    // The communicator stays unusable.
    EXPECT_FALSE(ranks.all_reduce(buffer_of(values, ElementType::float32)));
  });
  aborter.join();
}

TEST(CollectiveFailure, MemberThatHangsIsNamedAfterTheTimeout) {
  Cast cast(3);
  std::promise<void> over;
  auto finished = over.get_future().share();
  std::atomic<int> failed{0};
  cast.run(
      1,
      [&](Collective& ranks) {
        if (ranks.rank() == 1) {
          finished.wait();
          return;
        }
        std::vector<std::uint8_t> value(1), in(3);
        const std::vector<Buffer> receive{{&in[0], 1}, {&in[1], 1}, {&in[2], 1}};
        const auto gathered = ranks.all_gather(buffer_of(value), receive);
        ASSERT_FALSE(gathered);
        EXPECT_NE(gathered.error().message.find("worker-1"), std::string::npos)
            << gathered.error().message;
        if (++failed == 2) over.set_value();
      },
      milliseconds(400));
}

TEST(CollectiveFailure, DifferentSizesAreAnErrorThatNamesTheMember) {
  Cast cast(2);
  cast.run(1, [](Collective& ranks) {
    std::vector<std::uint8_t> out(ranks.rank() == 0 ? 10 : 20), in(20), own(10);
    std::vector<Buffer> send(2), receive(2);
    send[1 - ranks.rank()] = buffer_of(out);
    receive[1 - ranks.rank()] = buffer_of(in);  // rank 1 expects 20 from rank 0, which sends 10
    const auto moved = ranks.all_to_all(send, receive);
    ASSERT_FALSE(moved);
    EXPECT_NE(moved.error().message.find(ranks.rank() == 0 ? "worker-1" : "worker-0"),
              std::string::npos)
        << moved.error().message;
  });
}

TEST(CollectiveFailure, MemberThatLeavesAfterItsPartDisturbsNobody) {
  Cast cast(3);
  for (std::uint64_t generation = 1; generation < 20; ++generation)
    cast.run(generation, [](Collective& ranks) {
      // Rank 0 sends and is done; the others still have something to do with each other.
      std::vector<std::uint8_t> big(1 << 20, 7);
      std::vector<Buffer> send(3), receive(3);
      std::vector<std::uint8_t> from_0(1000), from_other(big.size());
      if (ranks.rank() == 0) {
        std::vector<std::uint8_t> small(1000, 5);
        send[1] = send[2] = buffer_of(small);
        ASSERT_TRUE(ranks.all_to_all(send, receive));
        return;
      }
      const std::uint32_t other = 3 - ranks.rank();
      send[other] = buffer_of(big);
      receive[other] = buffer_of(from_other);
      receive[0] = buffer_of(from_0);
      const auto moved = ranks.all_to_all(send, receive);
      ASSERT_TRUE(moved) << moved.error().message;
      EXPECT_EQ(from_0, std::vector<std::uint8_t>(1000, 5));
    });
}

TEST(CollectiveFailure, KilledMemberIsNamed) {
  const auto keys = test_keys();
  std::array<int, 2> to_child{}, from_child{};
  ASSERT_EQ(::pipe(to_child.data()), 0);
  ASSERT_EQ(::pipe(from_child.data()), 0);
  const pid_t child = ::fork();  // before this process has threads
  if (child == 0) {
    auto host = CollectiveHost::listen("tcp://127.0.0.1:*", keys).value();
    char other[128] = {}, mine[128] = {};
    std::strncpy(mine, host->endpoint().c_str(), sizeof mine - 1);
    (void)!::write(from_child[1], mine, sizeof mine);
    (void)!::read(to_child[0], other, sizeof other);
    auto ranks = host->form(1, 1, {{"worker-0", other}, {"worker-1", mine}}, kPatience, kPatience);
    std::vector<float> values(1000, 1.0f);
    while (ranks && (*ranks)->all_reduce(buffer_of(values, ElementType::float32))) {
    }
    ::_exit(0);
  }
  auto host = CollectiveHost::listen("tcp://127.0.0.1:*", keys).value();
  char theirs[128] = {}, mine[128] = {};
  std::strncpy(mine, host->endpoint().c_str(), sizeof mine - 1);
  ASSERT_EQ(::write(to_child[1], mine, sizeof mine), static_cast<ssize_t>(sizeof mine));
  ASSERT_EQ(::read(from_child[0], theirs, sizeof theirs), static_cast<ssize_t>(sizeof theirs));
  auto ranks = host->form(1, 0, {{"worker-0", mine}, {"worker-1", theirs}}, kPatience, kPatience);
  ASSERT_TRUE(ranks) << ranks.error().message;
  std::vector<float> values(1000, 1.0f);
  Status reduced;
  TimePoint killed;
  for (int i = 0; i < 100000 && reduced; ++i) {
    if (i == 20) {
      killed = Clock::now();
      ::kill(child, SIGKILL);
    }
    reduced = (*ranks)->all_reduce(buffer_of(values, ElementType::float32));
  }
  ASSERT_FALSE(reduced);
  EXPECT_EQ(reduced.error().code, Errc::unavailable);
  EXPECT_NE(reduced.error().message.find("worker-1"), std::string::npos) << reduced.error().message;
  EXPECT_LT(seconds(Clock::now() - killed), 5) << "only the timeout noticed it";
  ::waitpid(child, nullptr, 0);
  for (const int fd : {to_child[0], to_child[1], from_child[0], from_child[1]}) ::close(fd);
}

// ---- Forming ----

TEST(CollectiveForming, MissingMemberIsNamed) {
  Cast cast(2);
  const auto formed = cast.hosts[0]->form(1, 0, cast.members, milliseconds(300), kPatience);
  ASSERT_FALSE(formed);
  EXPECT_EQ(formed.error().code, Errc::timeout);
  EXPECT_NE(formed.error().message.find("worker-1 did not join"), std::string::npos)
      << formed.error().message;
}

TEST(CollectiveForming, UnreachableMemberIsNamed) {
  Cast cast(2);
  cast.hosts[1].reset();
  const auto formed = cast.hosts[0]->form(1, 0, cast.members, milliseconds(300), kPatience);
  ASSERT_FALSE(formed);
  EXPECT_NE(formed.error().message.find("worker-1 cannot be reached"), std::string::npos)
      << formed.error().message;
}

TEST(CollectiveForming, CanBeAborted) {
  Cast cast(2);
  auto formed = std::async(std::launch::async, [&] {
    return cast.hosts[0]->form(1, 0, cast.members, kPatience, kPatience);
  });
  // An abort before the wait has begun does nothing, so it is repeated.
  while (formed.wait_for(milliseconds(5)) != std::future_status::ready)
    cast.hosts[0]->abort_forming("the job was cancelled");
  const auto result = formed.get();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::cancelled);
  EXPECT_NE(result.error().message.find("the job was cancelled"), std::string::npos);
}

TEST(CollectiveForming, OlderGenerationGivesWayToANewerOne) {
  Cast cast(2);
  auto late = std::async(std::launch::async, [&] {
    return cast.hosts[0]->form(4, 0, cast.members, kPatience, kPatience);
  });
  auto newer = std::async(std::launch::async, [&] {
    return cast.hosts[1]->form(5, 1, cast.members, kPatience, kPatience);
  });
  const auto old = late.get();
  ASSERT_FALSE(old);
  EXPECT_EQ(old.error().code, Errc::stale_generation) << old.error().message;
  // The hello of generation 5 is not lost: now both form.
  const auto again = cast.hosts[0]->form(5, 0, cast.members, kPatience, kPatience);
  EXPECT_TRUE(again) << again.error().message;
  EXPECT_TRUE(newer.get());
  const auto back = cast.hosts[0]->form(5, 0, cast.members, kPatience, kPatience);
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().code, Errc::stale_generation);
}

// A stranger with the right key, or a member of a generation that is over, changes nothing.
TEST(CollectiveForming, FramesOfOtherGenerationsAndStrangersAreDropped) {
  Cast cast(2);
  zmq::context_t context;
  zmq::socket_t old_member(context, zmq::socket_type::dealer);
  use_client_keys(old_member, test_keys());
  old_member.set(zmq::sockopt::linger, 0);
  old_member.connect(cast.members[0].endpoint);
  const auto say = [&](FrameKind kind, std::uint64_t generation, std::uint64_t operation) {
    FrameHeader header;
    header.kind = kind;
    header.generation = generation;
    header.source = 1;
    header.operation = operation;
    header.total = kind == FrameKind::hello ? 2 : 4;
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    if (kind == FrameKind::data) bytes += "evil";
    ASSERT_TRUE(old_member.send(zmq::buffer(bytes), zmq::send_flags::none).has_value());
  };
  say(FrameKind::hello, 6, 0);
  say(FrameKind::data, 6, 1);
  say(FrameKind::bye, 6, 0);
  say(FrameKind::data, 7, 1);  // the right generation, but it never said hello for it
  say(FrameKind::bye, 7, 0);
  ASSERT_TRUE(old_member.send(zmq::str_buffer("garbage"), zmq::send_flags::none).has_value());
  cast.run(7, [](Collective& ranks) {
    for (int i = 0; i < 20; ++i) {
      std::vector<std::uint32_t> value{41 + ranks.rank()}, in(2);
      const std::vector<Buffer> receive{{&in[0], 4}, {&in[1], 4}};
      const auto gathered = ranks.all_gather(buffer_of(value), receive);
      ASSERT_TRUE(gathered) << gathered.error().message;
      ASSERT_EQ(in, (std::vector<std::uint32_t>{41, 42}));
    }
  });
}

TEST(CollectiveForming, UnknownKeyIsNeverHeard) {
  Cast cast(2);
  auto keys = make_keyring().value();
  keys.server_public = test_keys().server_public;
  zmq::context_t context;
  zmq::socket_t stranger(context, zmq::socket_type::dealer);
  use_client_keys(stranger, keys);
  stranger.set(zmq::sockopt::linger, 0);
  stranger.connect(cast.members[0].endpoint);
  FrameHeader hello;  // would end the forming of generation 1, if it were heard
  hello.generation = 99;
  hello.source = 1;
  hello.total = 2;
  ASSERT_TRUE(stranger.send(zmq::const_buffer(&hello, sizeof hello), zmq::send_flags::none));
  const auto formed = cast.hosts[0]->form(1, 0, cast.members, milliseconds(500), kPatience);
  ASSERT_FALSE(formed);
  EXPECT_EQ(formed.error().code, Errc::timeout) << formed.error().message;
}

TEST(CollectiveForming, TakenPortIsNamed) {
  Cast cast(1);
  const auto taken = CollectiveHost::listen(cast.hosts[0]->endpoint(), test_keys());
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, Errc::address_in_use);
}

}  // namespace
}  // namespace crabcast::cluster
