#include "protocol/format.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

namespace crabcast {
namespace {

TEST(Format, Bytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes((1ULL << 20) - 1), "1.0 MiB");  // not "1024.0 KiB"
  EXPECT_EQ(format_bytes(5ULL << 30), "5.0 GiB");
  EXPECT_EQ(format_bytes(UINT64_MAX), "16.0 EiB");
}

TEST(Format, Duration) {
  EXPECT_EQ(format_duration(0), "0 ms");
  EXPECT_EQ(format_duration(0.3404), "340 ms");
  EXPECT_EQ(format_duration(0.9996), "1.0 s");
  EXPECT_EQ(format_duration(3.44), "3.4 s");
  EXPECT_EQ(format_duration(59.96), "1m 00s");
  EXPECT_EQ(format_duration(307), "5m 07s");
  EXPECT_EQ(format_duration(3720), "1h 02m");
  EXPECT_EQ(format_duration(86400 * 2 + 3600 * 3), "2d 03h");
  EXPECT_EQ(format_duration(-1), "-");
  EXPECT_EQ(format_duration(std::nan("")), "-");
  EXPECT_EQ(format_duration(std::numeric_limits<double>::infinity()), "-");
}

TEST(Format, ParseBytes) {
  EXPECT_EQ(parse_bytes("2GiB"), 2ULL << 30);
  EXPECT_EQ(parse_bytes("512 MiB"), 512ULL << 20);
  EXPECT_EQ(parse_bytes("1.5KiB"), 1536U);
  EXPECT_EQ(parse_bytes("3kB"), 3000U);
  EXPECT_EQ(parse_bytes("0B"), 0U);
  for (const char* bad : {"", "2", "GiB", "2 gib", "2  GiB", "-2GiB", "1e3MiB", "2GiB ", "2GiBs",
                          "..GiB", "99999999999TiB", "nanGiB", "0x2GiB", " 2GiB"}) {
    const auto refused = parse_bytes(bad);
    ASSERT_FALSE(refused.has_value()) << bad;
    EXPECT_EQ(refused.error().code, Errc::invalid_argument) << bad;
  }
  EXPECT_EQ(parse_bytes("2").error().message,
            "\"2\" is not a size: it needs a unit, for example 2GiB or 512MiB");
}

TEST(Format, ParseDuration) {
  EXPECT_EQ(parse_duration("60s"), 60);
  EXPECT_EQ(parse_duration("5m"), 300);
  EXPECT_EQ(parse_duration("1.5 h"), 5400);
  EXPECT_EQ(parse_duration("250ms"), 0.25);
  EXPECT_EQ(parse_duration("2d"), 172800);
  for (const char* bad : {"", "60", "s", "5 minutes", "-5s", "1h30m", "1e2s", "inf s"})
    EXPECT_FALSE(parse_duration(bad).has_value()) << bad;
}

TEST(Format, ExactTextsReadBackTheSame) {
  EXPECT_EQ(exact_bytes(2ULL << 30), "2GiB");
  EXPECT_EQ(exact_bytes(1536ULL << 20), "1536MiB");
  EXPECT_EQ(exact_bytes(1000), "1000B");
  EXPECT_EQ(exact_bytes(0), "0B");
  EXPECT_EQ(exact_number(32), "32");
  EXPECT_EQ(exact_number(0.1), "0.1");
  EXPECT_EQ(exact_number(1e-8), "1.0e-08");
  EXPECT_EQ(exact_number(1e6), "1000000");
  EXPECT_EQ(exact_number(1e300), "1.0e+300");
  EXPECT_EQ(exact_number(-2.5e-4), "-0.00025");
  EXPECT_EQ(exact_number(-0.0), "0");
  constexpr unsigned kSeed = 20240611;
  SCOPED_TRACE(kSeed);
  std::mt19937_64 bits(kSeed);
  for (int i = 0; i < 2000; ++i) {
    const auto number = std::bit_cast<double>(bits());
    if (std::isfinite(number)) {
      EXPECT_EQ(parse_number(exact_number(number)), number);
    }
    const std::uint64_t bytes = bits() >> (12 + bits() % 50);
    EXPECT_EQ(parse_bytes(exact_bytes(bytes)), bytes);
  }
}

TEST(Format, ParseNumbers) {
  EXPECT_EQ(parse_number("1e-4"), 1e-4);
  EXPECT_EQ(parse_number("-2.5"), -2.5);
  for (const char* bad :
       {"", " 1", "1 ", "1,5", "nan", "inf", "1e999", "0x10", "one", "+1", "1_000"})
    EXPECT_FALSE(parse_number(bad).has_value()) << bad;
  EXPECT_EQ(parse_whole("18446744073709551615"), UINT64_MAX);
  for (const char* bad : {"", "-1", "1.0", "18446744073709551616", "1e3", "+1"})
    EXPECT_FALSE(parse_whole(bad).has_value()) << bad;
}

TEST(Format, EditDistance) {
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  EXPECT_EQ(edit_distance("lanes", "lanes"), 0U);
  EXPECT_EQ(edit_distance("lanse", "lanes"), 1U);  // two letters swapped
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
  EXPECT_EQ(edit_distance("sitting", "kitten"), 3U);
}

TEST(Format, NearestName) {
  const std::vector<std::string> known = {"steps", "epochs",  "lanes", "samples_per_lane",
                                          "lr",    "bfloat16"};
  EXPECT_EQ(nearest_name("step", known), "steps");
  EXPECT_EQ(nearest_name("lane", known), "lanes");
  EXPECT_EQ(nearest_name("Samples-Per-Lane", known), "samples_per_lane");
  EXPECT_EQ(nearest_name("bf16", known), "bfloat16");
  EXPECT_EQ(nearest_name("colour", known), std::nullopt);
  EXPECT_EQ(nearest_name("by", known), std::nullopt);
  EXPECT_EQ(nearest_name("x", known), std::nullopt);
  EXPECT_EQ(nearest_name("", known), std::nullopt);
  EXPECT_EQ(nearest_name(std::string(100000, 'a'), known), std::nullopt);
}

TEST(Format, Table) {
  EXPECT_EQ(format_table({"TASK", "LOSS", "NOTE"},
                         {{"captioning", "0.51", "ok"}, {"qa", "10.2", ""}, {"short"}}),
            "TASK        LOSS  NOTE\n"
            "captioning  0.51  ok\n"
            "qa          10.2\n"
            "short\n");
  EXPECT_EQ(format_table({"NAME", "N"}, {{"\xC3\xA9t\xC3\xA9", "1"}, {"b", "-"}}),
            "NAME  N\n"
            "\xC3\xA9t\xC3\xA9   1\n"
            "b     -\n");
  EXPECT_EQ(format_table({"NAME", "STATE"}, {}), "NAME  STATE\n");
}

TEST(Format, Excerpt) {
  EXPECT_EQ(excerpt("short"), "short");
  EXPECT_EQ(excerpt("a\nb\x7F"), "a?b?");
  EXPECT_EQ(excerpt("abcdefghij", 8), "abcde...");
  EXPECT_EQ(excerpt("abcd\xC3\xA9xyz", 8), "abcd...");  // the letter of two bytes is not halved
}

}  // namespace
}  // namespace crabcast
