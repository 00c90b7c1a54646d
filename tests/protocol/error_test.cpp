#include "protocol/error.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <set>

namespace crabcast {
namespace {

TEST(Error, EveryCodeHasItsOwnName) {
  std::set<std::string_view> names;
  std::uint32_t number = 0;
  for (; number <= static_cast<std::uint32_t>(Errc::unsupported); ++number) {
    const auto name = to_string(static_cast<Errc>(number));
    EXPECT_FALSE(name.empty()) << number;
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), name.npos) << name;
    EXPECT_TRUE(names.insert(name).second) << name << " names two codes";
    EXPECT_EQ(errc_from_number(number), static_cast<Errc>(number));
  }
  EXPECT_EQ(errc_from_number(number), Errc::internal);
  EXPECT_EQ(errc_from_number(UINT32_MAX), Errc::internal);
}

TEST(Error, StoredNumbersStayWhatTheyAre) {
  // Written into registries and sent between versions; one of each end and some between.
  EXPECT_EQ(static_cast<int>(Errc::ok), 0);
  EXPECT_EQ(static_cast<int>(Errc::invalid_spec), 2);
  EXPECT_EQ(static_cast<int>(Errc::unauthenticated), 6);
  EXPECT_EQ(static_cast<int>(Errc::corrupt), 11);
  EXPECT_EQ(static_cast<int>(Errc::disk_full), 13);
  EXPECT_EQ(static_cast<int>(Errc::stale_generation), 15);
  EXPECT_EQ(static_cast<int>(Errc::non_finite), 19);
  EXPECT_EQ(static_cast<int>(Errc::process_died), 21);
  EXPECT_EQ(static_cast<int>(Errc::unsupported), 24);
  EXPECT_EQ(to_string(Errc::disk_full), "disk_full");
  EXPECT_EQ(to_string(Errc::unsupported), "unsupported");
}

TEST(Error, ErrnoBecomesTheFittingCode) {
  EXPECT_EQ(error_from_errno(ENOENT, "x").code, Errc::not_found);
  EXPECT_EQ(error_from_errno(EACCES, "x").code, Errc::permission_denied);
  EXPECT_EQ(error_from_errno(ENOSPC, "x").code, Errc::disk_full);
  EXPECT_EQ(error_from_errno(EADDRINUSE, "x").code, Errc::address_in_use);
  EXPECT_EQ(error_from_errno(EMFILE, "x").code, Errc::resource_exhausted);
  EXPECT_EQ(error_from_errno(EIO, "x").code, Errc::io_error);
  EXPECT_EQ(error_from_errno(ENOSPC, "write /a/b").message, "write /a/b: No space left on device");
}

Status step_two(bool works) {
  if (!works) return fail(Errc::io_error, "step two");
  return {};
}
Result<int> both_steps(bool works) {
  CRABCAST_TRY(step_two(works));
  return 2;
}

TEST(Error, TryHandsTheErrorUp) {
  EXPECT_EQ(both_steps(true), 2);
  const auto failed = both_steps(false);
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().within("job a").message, "job a: step two");
  EXPECT_EQ(failed.error().within("job a").code, Errc::io_error);
}

}  // namespace
}  // namespace crabcast
