// A joiner's copy of the state, over real sockets: whole, resumed from another peer, refused.
#include "actors/compute/state_copy.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <caf/all.hpp>

#include "protocol/checksum.h"

namespace crabcast::actors {
namespace {

using testing::HasSubstr;

const cluster::Keyring& keys() {
  static const cluster::Keyring keyring = cluster::make_keyring().value();
  return keyring;
}

StateSnapshot state_after(std::uint64_t step, double scale = 1) {
  StateSnapshot state;
  state.step = step;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape,
                       at::ScalarType type) {
    const auto count = c10::multiply_integers(shape);
    state.tensors.push_back(
        {name, (at::arange(count, at::kDouble) * scale).remainder(97).view(shape).to(type)});
  };
  add("small", {3}, at::kFloat);
  add("large", {300, 1000}, at::kFloat);  // several chunks
  add("none", {0, 4}, at::kFloat);
  add("half", {1000, 211}, at::kBFloat16);
  add("count", {1}, at::kLong);
  return state;
}

void expect_equal(const std::vector<model::NamedTensor>& got, const StateSnapshot& sent) {
  ASSERT_EQ(got.size(), sent.tensors.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].name, sent.tensors[i].name);
    EXPECT_TRUE(at::equal(got[i].tensor, sent.tensors[i].tensor)) << got[i].name;
  }
}

// A peer that serves a state and counts chunks; after `serves` of them it says that it cannot.
struct Source {
  Source(const std::string& name, const StateSnapshot& state, std::uint64_t generation,
         int serves = 1'000'000)
      : offer(state, generation), left(serves) {
    cluster::TransportOptions options;
    options.process = ProcessId{name};
    options.keys = keys();
    board = Switchboard::start(system, std::move(options)).value();
    actor = system.spawn([this](caf::event_based_actor*) -> caf::behavior {
      return {[this](const DeliveryPtr& request) {
        if (request->envelope->has_state_chunk_request() && left-- <= 0)
          return answer(*request, Error{Errc::unavailable, "gone"});
        served += request->envelope->has_state_chunk_request() ? 1 : 0;
        offer.serve(*request);
      }};
    });
    board->publish("peer", actor);
    endpoint = board->bind("tcp://127.0.0.1:*").value();
  }
  ~Source() {
    board->stop();
    caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
    actor = nullptr;
  }
  StateOffer offer;
  std::atomic<int> left, served = 0;
  caf::actor_system_config config;
  caf::actor_system system{config};
  std::unique_ptr<Switchboard> board;
  caf::actor actor;
  std::string endpoint;
};

class StateCopyTest : public testing::Test {
 protected:
  StateCopyTest() {
    cluster::TransportOptions options;
    options.process = ProcessId{"joiner"};
    options.keys = keys();
    board_ = Switchboard::start(system_, std::move(options)).value();
  }
  ~StateCopyTest() override { board_->stop(); }
  Status fetch(const Source& source, std::uint64_t generation, std::uint64_t step) {
    return copy_.fetch(system_, *board_, progress_, source.endpoint, generation, step,
                       [this] { return interrupted_; });
  }
  caf::actor_system_config config_;
  caf::actor_system system_{config_};
  std::unique_ptr<Switchboard> board_;
  Progress progress_;
  StateCopy copy_;
  bool interrupted_ = false;
};

TEST_F(StateCopyTest, EveryTensorComesAsItWas) {
  const auto state = state_after(7);
  const Source source("a", state, 3);
  const auto status = fetch(source, 3, 7);
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(copy_.missing(), 0U);
  EXPECT_EQ(static_cast<std::uint32_t>(source.served.load()), copy_.chunks());
  expect_equal(copy_.take(), state);
  EXPECT_EQ(copy_.chunks(), 0U);
}

TEST_F(StateCopyTest, AnotherPeerSendsOnlyWhatIsMissing) {
  const auto state = state_after(7);
  const Source first("a", state, 3, 4), second("b", state, 3);
  const auto broken = fetch(first, 3, 7);
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, Errc::unavailable);
  EXPECT_EQ(copy_.missing(), copy_.chunks() - 4);
  ASSERT_TRUE(fetch(second, 3, 7));
  EXPECT_EQ(static_cast<std::uint32_t>(second.served.load()), copy_.chunks() - 4);
  expect_equal(copy_.take(), state);
}

TEST_F(StateCopyTest, TheNextGenerationGoesOnWithTheSameState) {
  const auto state = state_after(7);
  const Source first("a", state, 3, 2), second("b", state, 4);
  ASSERT_FALSE(fetch(first, 3, 7));
  ASSERT_TRUE(fetch(second, 4, 7));
  EXPECT_EQ(static_cast<std::uint32_t>(second.served.load()), copy_.chunks() - 2);
  expect_equal(copy_.take(), state);
}

TEST_F(StateCopyTest, WhatCameOfAnotherStateIsForgotten) {
  const auto newer = state_after(8, 3);
  const Source first("a", state_after(7), 3, 2), second("b", newer, 4);
  ASSERT_FALSE(fetch(first, 3, 7));
  ASSERT_TRUE(fetch(second, 4, 8));
  EXPECT_EQ(static_cast<std::uint32_t>(second.served.load()), copy_.chunks());
  expect_equal(copy_.take(), newer);
}

TEST_F(StateCopyTest, AnotherGenerationOrStepIsRefused) {
  const Source source("a", state_after(7), 3);
  for (const auto& [generation, step] : {std::pair(2, 7), std::pair(4, 7), std::pair(3, 6)}) {
    const auto status = fetch(source, generation, step);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Errc::stale_generation);
    EXPECT_THAT(status.error().message, HasSubstr("after step 7 of generation 3"));
  }
}

TEST_F(StateCopyTest, ANewerGenerationInterrupts) {
  const Source source("a", state_after(7), 3);
  interrupted_ = true;
  const auto status = fetch(source, 3, 7);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Errc::cancelled);
  EXPECT_EQ(source.served.load(), 0);
}

TEST(TensorStream, AChunkMayLieAcrossTensors) {
  const auto state = state_after(1);
  const TensorStream stream(state.tensors);
  std::string all;
  for (const auto& [name, tensor] : state.tensors)
    all.append(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  ASSERT_EQ(stream.bytes(), all.size());
  std::string chunks;
  for (std::uint32_t i = 0; i < stream.chunks(); ++i) {
    const auto frame = stream.chunk(i);
    EXPECT_EQ(frame.size(), i + 1 < stream.chunks() ? kChunkBytes : all.size() % kChunkBytes);
    chunks.append(reinterpret_cast<const char*>(frame.data()), frame.size());
  }
  EXPECT_EQ(chunks, all);
}

TEST(TensorStream, WithGapsItTakesOnlyWhatIsWanted) {
  TensorStream stream;
  const auto tensor = at::zeros({4}, at::kByte);
  stream.add(10, tensor);
  EXPECT_FALSE(stream.touches(0, 10));
  EXPECT_TRUE(stream.touches(13, 20));
  EXPECT_FALSE(stream.touches(14, 20));
  const std::string bytes = "0123456789abcdefgh";
  stream.fill(0, std::as_bytes(std::span(bytes)));
  EXPECT_EQ(std::string(static_cast<const char*>(tensor.const_data_ptr()), 4), "abcd");
}

TEST(TensorStream, AChangedChunkIsNamed) {
  const std::string bytes = "the bytes";
  const auto entry = make_chunk_entry(3, std::as_bytes(std::span(bytes)));
  EXPECT_TRUE(check_chunk(entry, std::as_bytes(std::span(bytes)), "x"));
  const std::string other = "the bites";
  const auto changed = check_chunk(entry, std::as_bytes(std::span(other)), "checkpoint 6");
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().code, Errc::corrupt);
  EXPECT_EQ(changed.error().message, "chunk 3 of checkpoint 6 changed on its way");
}

}  // namespace
}  // namespace crabcast::actors
