// The repository's text files, and C++ text with what is no code blanked out.
#pragma once

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace crabcast::house {

struct SourceFile {
  std::string path;  // from the repository's root
  std::string text;
};

struct Violation {
  std::string path;
  std::size_t line = 0;  // from 1; 0 = the whole file
  std::string message;   // the rule, and what to do

  [[nodiscard]] std::string text() const {
    return path + (line > 0 ? ":" + std::to_string(line) : "") + ": " + message;
  }
};
using Violations = std::vector<Violation>;

inline std::filesystem::path repository_root() {
  const char* source = std::getenv("CRABCAST_SOURCE");
  return source == nullptr ? "." : source;
}

inline bool has_ending(std::string_view path, std::initializer_list<std::string_view> endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return path.ends_with(ending); });
}

inline bool is_cpp(std::string_view path) {
  return has_ending(path, {".h", ".cpp", ".cu", ".cuh"});
}

inline bool is_text(std::string_view path) {
  return is_cpp(path) || path == "dev" || path == ".ci/run" ||
         has_ending(path, {".proto", ".md", ".txt", ".cmake", ".yaml", ".json", ".html", ".css",
                           ".js", ".py", ".sh", ".golden", ".gitignore", ".clang-format"});
}

// All text files that belong to the project, sorted by path.
inline std::vector<SourceFile> repository_files(
    const std::filesystem::path& root = repository_root()) {
  namespace fs = std::filesystem;
  std::vector<SourceFile> files;
  for (auto it = fs::recursive_directory_iterator(root); it != fs::recursive_directory_iterator();
       ++it) {
    const std::string path = fs::relative(it->path(), root).generic_string();
    if (it->is_directory()) {
      const bool hidden = it->path().filename().string().starts_with('.') && path != ".ci";
      if (hidden || path.starts_with("build")) it.disable_recursion_pending();
    } else if (it->is_regular_file() && is_text(path)) {
      std::ifstream file(it->path(), std::ios::binary);
      files.push_back({path, {std::istreambuf_iterator<char>(file), {}}});
    }
  }
  std::sort(files.begin(), files.end(),
            [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; });
  return files;
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    lines.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return lines;
}

enum class Keep { strings, code_only };

// C++ with its comments, and on request the insides of its strings, replaced by blanks. Line breaks
// stay, so lines keep their numbers.
inline std::string without_comments(const std::string& text, Keep keep) {
  std::string result = text;
  const auto blank = [&](std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < std::min(to, result.size()); ++i)
      if (result[i] != '\n') result[i] = ' ';
  };
  const auto after = [&](std::string_view end, std::size_t from) {
    const auto at = text.find(end, from);
    return at == std::string::npos ? text.size() : at + end.size();
  };
  for (std::size_t i = 0; i < text.size();) {
    const std::string_view rest = std::string_view(text).substr(i);
    std::size_t end = i + 1;
    if (rest.starts_with("//")) {
      end = std::min(text.find('\n', i), text.size());
      blank(i, end);
    } else if (rest.starts_with("/*")) {
      end = after("*/", i + 2);
      blank(i, end);
    } else if (rest.starts_with("R\"")) {
      const std::size_t open = text.find('(', i);
      if (open == std::string::npos) return result;
      end = after(")" + text.substr(i + 2, open - i - 2) + "\"", open);
      if (keep == Keep::code_only) blank(open + 1, end - 1);
    } else if (rest[0] == '"' ||
               (rest[0] == '\'' &&
                (i == 0 || !std::isalnum(static_cast<unsigned char>(text[i - 1]))))) {
      while (end < text.size() && text[end] != rest[0] && text[end] != '\n')
        end += text[end] == '\\' ? 2 : 1;
      if (keep == Keep::code_only) blank(i + 1, end);
      ++end;
    }
    i = end;
  }
  return result;
}

}  // namespace crabcast::house
