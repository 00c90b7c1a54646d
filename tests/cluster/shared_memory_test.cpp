#include "cluster/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

namespace crabcast::cluster {
namespace {

TEST(SharedMemory, AnotherProcessReadsWhatIsWritten) {
  const auto memory = SharedMemory::create(10'000).value();
  std::memcpy(memory->data() + 9'000, "before", 6);
  int told[2], seen[2];
  ASSERT_EQ(::pipe(told), 0);
  ASSERT_EQ(::pipe(seen), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto ticket = SharedMemoryTicket::parse(memory->ticket().as_bytes());
    const auto view = SharedMemory::open(*ticket);
    char go = 0;
    if (!view || std::memcmp((*view)->data() + 9'000, "before", 6) != 0) ::_exit(1);
    (void)!::write(seen[1], "x", 1);
    (void)!::read(told[0], &go, 1);
    ::_exit(std::memcmp((*view)->data() + 9'000, "after!", 6) == 0 ? 0 : 2);
  }
  char first = 0;
  ASSERT_EQ(::read(seen[0], &first, 1), 1);
  std::memcpy(memory->data() + 9'000, "after!", 6);
  ASSERT_EQ(::write(told[1], "x", 1), 1);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  for (const int fd : {told[0], told[1], seen[0], seen[1]}) ::close(fd);
}

TEST(SharedMemory, IsGoneWithItsWriter) {
  SharedMemoryTicket ticket;
  {
    const auto memory = SharedMemory::create(100).value();
    ticket = memory->ticket();
  }
  const auto opened = SharedMemory::open(ticket);
  ASSERT_FALSE(opened);
}

// A number may stand for anything on another machine, a pipe that nobody writes to included.
TEST(SharedMemory, WhatTheTicketIsNotForIsRefused) {
  const auto memory = SharedMemory::create(100).value();
  const auto other = SharedMemory::create(100).value();
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const int file = ::open("/proc/self/exe", O_RDONLY);
  for (const auto& [descriptor, bytes] :
       {std::pair(other->ticket().descriptor, 100UL), std::pair(ends[0], 100UL),
        std::pair(file, 100UL), std::pair(memory->ticket().descriptor, 200UL),
        std::pair(memory->ticket().descriptor, ~0UL)}) {
    SharedMemoryTicket ticket = memory->ticket();
    ticket.descriptor = descriptor;
    ticket.bytes = bytes;
    const auto opened = SharedMemory::open(ticket);
    ASSERT_FALSE(opened) << descriptor << " " << bytes;
    EXPECT_EQ(opened.error().code, Errc::corrupt) << opened.error().message;
  }
  for (const int fd : {ends[0], ends[1], file}) ::close(fd);
}

TEST(SharedMemory, ATicketHasItsSize) {
  const auto memory = SharedMemory::create(1).value();
  const auto bytes = memory->ticket().as_bytes();
  EXPECT_TRUE(SharedMemoryTicket::parse(bytes));
  EXPECT_FALSE(SharedMemoryTicket::parse(bytes.substr(1)));
  EXPECT_FALSE(SharedMemoryTicket::parse(""));
}

}  // namespace
}  // namespace crabcast::cluster
