// What the collective over NCCL does when a member hangs, fails, dies or never comes. NCCL itself
// notices little of that: timeouts, aborts and its asynchronous errors are all there is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <latch>

#include "tests/nccl/nccl_cast.h"
#include "tests/nccl/shared_memory_nccl.h"

namespace crabcast::nccl_test {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

constexpr auto kShort = milliseconds(100);  // until a member that hangs is given up

auto staged_at(std::uint32_t rank, Fault fault, std::uint64_t operation) {
  return [=](std::uint32_t mine) {
    if (mine == rank) stage(fault, operation);
  };
}

Status sum_of_ones(Collective& ranks) {
  std::vector<float> ones(1000, 1);
  CRABCAST_TRY(ranks.all_reduce(floats(ones)));
  EXPECT_EQ(ones[999], static_cast<float>(ranks.size()));
  return {};
}

TEST(NcclFaults, AbortEndsAnOperationThatHangs) {
  std::latch in_second(3);
  run_ranks(
      3,
      [&](Collective& ranks) {
        ASSERT_TRUE(sum_of_ones(ranks));
        const std::jthread other([&] {
          in_second.arrive_and_wait();
          ranks.abort("worker-1 was lost");
        });
        const auto hung = sum_of_ones(ranks);
        ASSERT_FALSE(hung);
        EXPECT_EQ(hung.error().code, Errc::cancelled);
        EXPECT_THAT(hung.error().message, HasSubstr("all_reduce"));
        EXPECT_THAT(hung.error().message, HasSubstr("worker-1 was lost"));
        EXPECT_EQ(sum_of_ones(ranks).error().message, hung.error().message);  // unusable now
      },
      kPatience, staged_at(1, Fault::hang, 2));
}

// Every operation, since each asks NCCL in its own way.
TEST(NcclFaults, AnOperationThatHangsEndsAtItsTimeout) {
  const std::function<Status(Collective&)> operations[] = {
      sum_of_ones,
      [](Collective& ranks) {
        std::vector<float> values(10);
        return ranks.broadcast(floats(values), 1);
      },
      [](Collective& ranks) {
        std::vector<float> mine(10), first(10), second(10);
        const std::vector<Buffer> all{floats(first), floats(second)};
        return ranks.all_gather(floats(mine), all);
      },
      [](Collective& ranks) {
        const OnDevice mine(10, 1), all(20, 0);
        const std::vector<Buffer> parts{all.part(0, 10), all.part(10, 10)};
        return ranks.all_gather(mine.buffer(), parts);
      }};
  for (const auto& operation : operations)
    run_ranks(
        2,
        [&](Collective& ranks) {
          const auto hung = operation(ranks);
          // The root of a broadcast may be done before the other one hangs.
          if (hung && ranks.rank() == 1) return;
          ASSERT_FALSE(hung);
          EXPECT_EQ(hung.error().code, Errc::timeout) << hung.error().message;
        },
        kShort, staged_at(0, Fault::hang, 1));
}

TEST(NcclFaults, AnAsynchronousErrorNamesTheOperation) {
  run_ranks(
      2,
      [](Collective& ranks) {
        std::vector<float> mine(10, 1), theirs(10);
        const std::vector<Buffer> send{floats(mine), floats(mine)},
            receive{floats(theirs), floats(theirs)};
        const auto failed = ranks.all_to_all(send, receive);
        ASSERT_FALSE(failed);
        EXPECT_EQ(failed.error().code, Errc::device_error);
        EXPECT_THAT(failed.error().message, HasSubstr("all_to_all"));
        EXPECT_THAT(failed.error().message, HasSubstr("remote process exited"));
      },
      kPatience, [](std::uint32_t) { stage(Fault::remote_error, 1); });
}

TEST(NcclFaults, ACallThatNcclRefusesIsAnError) {
  run_ranks(
      2,
      [](Collective& ranks) {
        ASSERT_TRUE(sum_of_ones(ranks));
        const auto refused = sum_of_ones(ranks);
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, ranks.rank() == 0 ? Errc::device_error : Errc::timeout);
        if (ranks.rank() == 0) {
          EXPECT_THAT(refused.error().message, HasSubstr("internal error (staged by the test)"));
        }
      },
      kShort, staged_at(0, Fault::refuse, 2));
}

TEST(NcclFaults, NothingIsWrittenAfterAnError) {
  run_ranks(
      2,
      [](Collective& ranks) {
        std::vector<float> mine(10, 1), theirs(10, 2);
        const std::vector<Buffer> send{floats(mine), floats(mine)},
            receive{floats(theirs), floats(theirs)};
        ASSERT_FALSE(ranks.all_to_all(send, receive));
        theirs.assign(10, 7);  // the caller's again
        let_streams_run();
        EXPECT_EQ(theirs, std::vector<float>(10, 7));
      },
      kShort, [](std::uint32_t) { stage(Fault::hang, 1); });
}

TEST(NcclFaults, NoDeviceMemoryForHostBuffers) {
  run_ranks(1, [](Collective& ranks) {
    run_out_of_device_memory();
    std::vector<float> values(10);
    const auto failed = ranks.all_reduce(floats(values));
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, Errc::resource_exhausted);
  });
  EXPECT_EQ(allocations_on_device(), 0U);
}

// Closing waits for all members; one that was told to end, or whose partner is gone, must not.
TEST(NcclFaults, ClosingDoesNotWaitForAMemberThatIsGone) {
  const Endings before = endings();
  run_ranks(
      2,
      [](Collective& ranks) {
        ASSERT_TRUE(sum_of_ones(ranks));
        if (ranks.rank() == 0) ranks.abort("a newer generation is there");
      },
      kShort);
  EXPECT_EQ(endings().aborted - before.aborted, 2);
  EXPECT_EQ(endings().finalized, before.finalized);
}

// ---- Forming ------------------------------------------------------------------------------------

TEST(NcclFaults, FormingEndsAtItsTimeoutWhenAMemberDoesNotCome) {
  const auto id = cluster::make_nccl_unique_id().value();
  const auto formed = join(id, 0, 2, kShort, kPatience);
  ASSERT_FALSE(formed);
  EXPECT_EQ(formed.error().code, Errc::timeout);
  EXPECT_THAT(formed.error().message, HasSubstr("forming the communicator"));
}

TEST(NcclFaults, FormingEndsWhenItIsToBeGivenUp) {
  const auto id = cluster::make_nccl_unique_id().value();
  int asked = 0;
  const auto formed = cluster::make_nccl_collective(id, 0, 0, 2, kPatience, kPatience,
                                                    [&] { return ++asked == 5; });
  ASSERT_FALSE(formed);
  EXPECT_EQ(formed.error().code, Errc::cancelled);
}

TEST(NcclFaults, FormingFails) {
  const auto id = cluster::make_nccl_unique_id().value();
  stage(Fault::refuse, 0);
  EXPECT_EQ(join(id, 0, 2, kPatience, kPatience).error().code, Errc::device_error);
  EXPECT_EQ(join("short", 0, 2, kPatience, kPatience).error().code, Errc::invalid_argument);
  EXPECT_EQ(join(id, 2, 2, kPatience, kPatience).error().code, Errc::invalid_argument);
  const auto no_gpu = cluster::make_nccl_collective(id, 1, 0, 2, kPatience, kPatience, nullptr);
  EXPECT_THAT(no_gpu.error().message, HasSubstr("choosing the GPU"));
  stage_no_unique_id();
  EXPECT_EQ(cluster::make_nccl_unique_id().error().code, Errc::device_error);
}

TEST(NcclFaults, SurvivorsFormAgainWithFewer) {
  const auto next = cluster::make_nccl_unique_id().value();
  run_ranks(
      4,
      [&](Collective& ranks) {
        if (ranks.rank() == 3) return;  // leaves
        EXPECT_FALSE(sum_of_ones(ranks));
        const auto again = join(next, ranks.rank(), 3, kPatience, kPatience);
        ASSERT_TRUE(again) << again.error().message;
        EXPECT_TRUE(sum_of_ones(**again));
      },
      kShort);
}

// ---- Processes ----------------------------------------------------------------------------------

// What a rank does in a process of its own; 0 when all was as it should be.
int live_and_form_again(const std::string& id, const std::string& next, std::uint32_t rank) {
  if (rank == 2) stage(Fault::die, 2);
  auto three = join(id, rank, 3, kPatience, kShort);
  if (!three || !sum_of_ones(**three)) return 1;
  const auto lost = sum_of_ones(**three);
  if (lost || lost.error().code != Errc::timeout) return 2;
  three->reset();
  auto two = join(next, rank, 2, kPatience, kPatience);
  return two && sum_of_ones(**two) ? 0 : 3;
}

TEST(NcclFaults, AProcessThatIsKilledEndsTheOperationOfTheOthers) {
  const auto id = cluster::make_nccl_unique_id().value(),
             next = cluster::make_nccl_unique_id().value();
  std::vector<pid_t> children;
  for (std::uint32_t rank = 0; rank < 3; ++rank) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) ::_exit(live_and_form_again(id, next, rank));
    children.push_back(child);
  }
  for (std::size_t rank = 0; rank < children.size(); ++rank) {
    int status = 0;
    ASSERT_EQ(::waitpid(children[rank], &status, 0), children[rank]);
    if (rank == 2) {
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    } else {
      EXPECT_TRUE(WIFEXITED(status)) << "rank " << rank;
      EXPECT_EQ(WEXITSTATUS(status), 0) << "rank " << rank;
    }
  }
}

}  // namespace
}  // namespace crabcast::nccl_test
