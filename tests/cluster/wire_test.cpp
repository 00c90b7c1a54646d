#include "cluster/wire.h"

#include <gtest/gtest.h>

#include <random>

#include "protocol/ids.h"

namespace crabcast::cluster {
namespace {

pb::Envelope envelope(std::uint64_t request) {
  pb::Envelope e;
  e.set_request(request);
  e.set_to("job");
  e.mutable_goodbye()->set_reason(std::string(request * 10, 'r'));
  return e;
}

std::string head_of(std::initializer_list<std::uint64_t> requests) {
  std::string head = make_head();
  for (const auto request : requests) {
    const auto e = envelope(request);
    append_envelope(head, e, e.ByteSizeLong());
  }
  return head;
}

TEST(Wire, EnvelopesComeBackInOrder) {
  auto bytes = head_of({1, 2, 3});
  append_raw_frames(bytes, std::vector<std::uint64_t>{4096, 0});
  const auto head = parse_head(bytes.data(), bytes.size());
  ASSERT_TRUE(head) << head.error().message;
  EXPECT_EQ(head->raw_frames, (std::vector<std::uint64_t>{4096, 0}));
  ASSERT_EQ(head->envelopes.size(), 3u);
  for (std::uint64_t i = 1; i <= 3; ++i) {
    pb::Envelope parsed;
    ASSERT_TRUE(parsed.ParseFromArray(head->envelopes[i - 1].data(),
                                      static_cast<int>(head->envelopes[i - 1].size())));
    EXPECT_EQ(parsed.protocol(), kProtocolVersion) << "an envelope without a number gets ours";
    parsed.clear_protocol();
    EXPECT_EQ(parsed.SerializeAsString(), envelope(i).SerializeAsString());
  }
}

TEST(Wire, GivenProtocolNumberIsKept) {
  auto e = envelope(1);
  e.set_protocol(99);
  std::string bytes = make_head();
  append_envelope(bytes, e, e.ByteSizeLong());
  const auto head = parse_head(bytes.data(), bytes.size());
  ASSERT_TRUE(head);
  pb::Envelope parsed;
  ASSERT_TRUE(parsed.ParseFromArray(head->envelopes[0].data(),
                                    static_cast<int>(head->envelopes[0].size())));
  EXPECT_EQ(parsed.protocol(), 99u);
}

TEST(Wire, EveryTruncationIsCorruptOrShorter) {
  const auto bytes = head_of({1, 2});
  const auto first_only = head_of({1}).size();
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const auto head = parse_head(bytes.data(), n);
    if (n == first_only) {
      EXPECT_TRUE(head);
      continue;
    }
    ASSERT_FALSE(head) << n;
    EXPECT_EQ(head.error().code, Errc::corrupt);
  }
}

TEST(Wire, ImpossibleFramesAreCorrupt) {
  auto bytes = head_of({1});
  append_raw_frames(bytes, std::vector<std::uint64_t>(kMaxRawFrames, 1));
  EXPECT_TRUE(parse_head(bytes.data(), bytes.size()));
  bytes = head_of({1});
  append_raw_frames(bytes, std::vector<std::uint64_t>(kMaxRawFrames + 1, 1));
  EXPECT_FALSE(parse_head(bytes.data(), bytes.size()));
  const auto nothing = make_head();
  EXPECT_FALSE(parse_head(nothing.data(), nothing.size()));
}

TEST(Wire, RandomDamageNeverReadsOutside) {
  const std::uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  auto good = head_of({1, 2, 3});
  append_raw_frames(good, std::vector<std::uint64_t>{1, 2});
  for (int round = 0; round < 20000; ++round) {
    // On the heap at its exact size, so that a sanitizer sees every step outside.
    std::vector<char> bytes(good.begin(), good.end());
    bytes.resize(random() % (good.size() + 8));
    for (int flips = static_cast<int>(random() % 6); flips > 0 && !bytes.empty(); --flips)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    const auto head = parse_head(bytes.data(), bytes.size());
    if (!head) continue;
    std::size_t total = kHeadBytes + 8 * head->raw_frames.size();
    for (const auto& e : head->envelopes) {
      ASSERT_GE(e.data(), bytes.data());
      ASSERT_LE(e.data() + e.size(), bytes.data() + bytes.size());
      total += e.size() + 4;
    }
    ASSERT_EQ(total, bytes.size());
  }
}

}  // namespace
}  // namespace crabcast::cluster
