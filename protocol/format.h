// Text helpers that several programs need: numbers as people read and write them, tables, and the
// known name that is nearest to a misspelt one. All are pure and safe to call from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/error.h"

namespace crabcast {

// ---- For people: rounded ---------------------------------------------------------------------

// "512 B", "1.5 KiB", "2.0 GiB".
std::string format_bytes(std::uint64_t bytes);
// "340 ms", "3.4 s", "5m 07s", "1h 02m", "2d 03h"; "-" where there is no sensible number.
std::string format_duration(double seconds);

// ---- For files: exact, and parsed back to the same value ---------------------------------------

// "2GiB", "1536MiB", "1000B": the largest binary unit that divides the size.
std::string exact_bytes(std::uint64_t bytes);
// The shortest decimal that reads back as the same double: "0.1", "32", "1.0e-08".
std::string exact_number(double value);

// "2GiB", "512 MiB", "1.5GiB", "10GB", "4096B". A unit is required. invalid_argument.
Result<std::uint64_t> parse_bytes(std::string_view text);
// "60s", "5m", "1.5 h", "250ms", "2d" in seconds. A unit is required. invalid_argument.
Result<double> parse_duration(std::string_view text);
// A finite decimal number and nothing else: no blanks, no hexadecimal, no "nan".
std::optional<double> parse_number(std::string_view text);
// Decimal digits and nothing else; nothing when it does not fit.
std::optional<std::uint64_t> parse_whole(std::string_view text);

// ---- Names and tables --------------------------------------------------------------------------

// Number of letters to insert, remove, replace or swap with their neighbour (optimal alignment).
std::size_t edit_distance(std::string_view a, std::string_view b);
// The candidate that was most likely meant, letter case and -/_ aside: a near spelling, or
// else an abbreviation (bf16 for bfloat16); nothing when none is near.
std::optional<std::string> nearest_name(std::string_view name,
                                        std::span<const std::string> candidates);

// Columns padded to the same width, two blanks between them, no blanks at the end of a line. A
// column whose cells all start like numbers is aligned to the right. Every line ends in '\n'.
std::string format_table(const std::vector<std::string>& header,
                         const std::vector<std::vector<std::string>>& rows);

// "a, b, c"
std::string join_names(std::span<const std::string> names, std::string_view separator = ", ");
// The text as one line of at most `limit` bytes for a message: control characters become '?', a cut
// is marked by "...". Multi-byte letters stay whole.
std::string excerpt(std::string_view text, std::size_t limit = 40);

}  // namespace crabcast
