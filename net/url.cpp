#include "net/url.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <utility>

#include "runtime/assert.hpp"

namespace setsuna::net {
namespace {

constexpr std::size_t kMaxUrl = 2048;
constexpr std::size_t kMaxHost = 253;  // bytes of a DNS name
constexpr std::size_t kMaxLabel = 63;
constexpr std::size_t kMaxUnixName = 107;  // sockaddr_un::sun_path less its terminating (or leading) zero

constexpr std::array<std::string_view, 6> kSchemes = {"abstract", "ipc", "tcp", "tls+tcp", "ws", "wss"};

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool is_alpha(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

template <class Predicate>
bool all(std::string_view text, Predicate predicate) {
  return std::all_of(text.begin(), text.end(), predicate);
}

// Parsing stops at the first thing that is wrong; `fail` records it.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  ParsedUrl parse() {
    if (check_bytes() && take_scheme()) {
      url_.is_local() ? take_local_name() : take_authority_and_path();
    }
    return error_.empty() ? ParsedUrl{std::move(url_), {}} : ParsedUrl{std::nullopt, std::move(error_)};
  }

 private:
  bool fail(const std::string& what) {
    error_ = "invalid URL " + quote_for_message(text_) + ": " + what;
    return false;
  }

  std::string scheme() const { return std::string(scheme_name(url_.scheme)); }

  bool check_bytes() {
    if (text_.empty()) {
      return fail("it is empty; write one such as 'tcp://127.0.0.1:5555' or 'abstract://name'");
    }
    if (text_.size() > kMaxUrl) {
      return fail("it is longer than " + std::to_string(kMaxUrl) + " bytes");
    }
    if (!all(text_, [](char c) { return static_cast<unsigned char>(c) >= ' ' && c != 0x7f; })) {
      return fail("it contains a control character, such as a line end; remove it");
    }
    return true;
  }

  bool take_scheme() {
    const std::size_t end = text_.find("://");
    if (end == std::string_view::npos) {
      return fail("it has no scheme; it must begin with one of abstract://, ipc://, tcp://, tls+tcp://, ws://, wss://");
    }
    std::string name(text_.substr(0, end));
    std::transform(name.begin(), name.end(), name.begin(), lower);
    const auto* found = std::find(kSchemes.begin(), kSchemes.end(), name);
    if (found == kSchemes.end()) {
      return fail("unknown scheme " + quote_for_message(name, 40) +
                  "; use one of abstract://, ipc://, tcp://, tls+tcp://, ws://, wss://");
    }
    url_.scheme = static_cast<Scheme>(found - kSchemes.begin());
    rest_ = text_.substr(end + 3);
    return true;
  }

  bool take_local_name() {
    if (rest_.empty()) {
      return fail(url_.scheme == Scheme::kIpc ? "it has no file name; write one such as 'ipc:///tmp/setsuna.sock'"
                                              : "it has no name; write one such as 'abstract://setsuna-1'");
    }
    if (rest_.size() > kMaxUnixName) {
      return fail("its name has " + std::to_string(rest_.size()) + " bytes, and the system takes at most " +
                  std::to_string(kMaxUnixName) + "; choose a shorter one");
    }
    if (url_.scheme == Scheme::kIpc && rest_.front() != '/') {
      return fail("the file name must be absolute, that is begin with '/', as in 'ipc:///tmp/setsuna.sock'");
    }
    if (url_.scheme == Scheme::kIpc && rest_.back() == '/') {
      return fail("it names a directory; add a file name");
    }
    url_.path = std::string(rest_);
    return true;
  }

  bool take_authority_and_path() {
    if (rest_.find(' ') != std::string_view::npos) {
      return fail("it contains a space; remove it");
    }
    const std::size_t slash = rest_.find_first_of("/?#");
    const std::string_view authority = rest_.substr(0, slash);
    const std::string_view path = slash == std::string_view::npos ? std::string_view{} : rest_.substr(slash);
    if (authority.find('@') != std::string_view::npos) {
      return fail("user names and passwords in URLs are not used; remove the part before '@'");
    }
    return take_host_and_port(authority) && take_path(path);
  }

  bool take_host_and_port(std::string_view authority) {
    std::string_view port;
    bool has_port = false;
    if (!authority.empty() && authority.front() == '[') {
      const std::size_t close = authority.find(']');
      if (close == std::string_view::npos) {
        return fail("the bracket before the IPv6 address is not closed; write [address]:port");
      }
      const std::string_view after = authority.substr(close + 1);
      if (!after.empty() && after.front() != ':') {
        return fail("only ':' and a port may follow the bracket; write [address]:port");
      }
      has_port = !after.empty();
      port = has_port ? after.substr(1) : after;
      return take_ipv6(authority.substr(1, close - 1)) && take_port(port, has_port);
    }
    const std::size_t colon = authority.find(':');
    if (colon != std::string_view::npos && authority.find(':', colon + 1) != std::string_view::npos) {
      return fail("it has more than one ':' in the address; an IPv6 address must be in brackets: " + scheme() +
                  "://[::1]:5555");
    }
    has_port = colon != std::string_view::npos;
    port = has_port ? authority.substr(colon + 1) : port;
    return take_name_or_ipv4(authority.substr(0, colon)) && take_port(port, has_port);
  }

  bool take_ipv6(std::string_view text) {
    const std::size_t percent = text.find('%');
    const std::string address(text.substr(0, percent));
    in6_addr parsed;
    if (address.size() >= INET6_ADDRSTRLEN || ::inet_pton(AF_INET6, address.c_str(), &parsed) != 1) {
      return fail(quote_for_message(text, 60) + " is not an IPv6 address");
    }
    if (percent != std::string_view::npos) {
      const std::string_view zone = text.substr(percent + 1);
      const auto in_interface_name = [](char c) {
        return is_alpha(c) || is_digit(c) || c == '-' || c == '_' || c == '.';
      };
      if (zone.empty() || zone.size() > 15 || !all(zone, in_interface_name)) {
        return fail("after '%' must come the name of a network interface, as in [fe80::1%eth0]");
      }
    }
    url_.host = std::string(text);
    url_.ipv6 = true;
    return true;
  }

  bool take_name_or_ipv4(std::string_view host) {
    if (host == "*") {
      host = {};
    }
    if (host.size() > kMaxHost) {
      return fail("the host name is longer than " + std::to_string(kMaxHost) + " bytes");
    }
    if (host.empty()) {
      return true;  // any address; whoever dials refuses it
    }
    if (all(host, [](char c) { return is_digit(c) || c == '.'; })) {
      in_addr parsed;
      if (::inet_pton(AF_INET, std::string(host).c_str(), &parsed) != 1) {
        return fail(quote_for_message(host, 60) + " is not an IPv4 address; it takes four numbers from 0 to 255");
      }
    } else if (!check_name(host)) {
      return false;
    }
    url_.host = std::string(host);
    return true;
  }

  bool check_name(std::string_view host) {
    for (std::size_t at = 0; at <= host.size();) {
      const std::size_t dot = std::min(host.find('.', at), host.size());
      const std::string_view label = host.substr(at, dot - at);
      const bool root = label.empty() && at == host.size() && at > 1;  // the dot at the end of an absolute name
      const auto in_name = [](char c) { return is_alpha(c) || is_digit(c) || c == '-' || c == '_'; };
      if (!all(label, in_name)) {
        return fail(
            "the host name " + quote_for_message(host, 60) +
            " contains other characters than letters, digits, '-', '_' and '.'; write names of other scripts in "
            "their 'xn--' form");
      }
      if ((label.empty() && !root) || label.size() > kMaxLabel) {
        return fail("the host name " + quote_for_message(host, 60) + " has a part that is empty or longer than " +
                    std::to_string(kMaxLabel) + " bytes");
      }
      at = dot + 1;
    }
    return true;
  }

  bool take_port(std::string_view port, bool present) {
    if (!present && url_.is_websocket()) {
      url_.port = url_.scheme == Scheme::kWss ? 443 : 80;
      return true;
    }
    if (!present) {
      return fail("it has no port; add one, as in ':5555' (or ':0' where the host is to take a free one)");
    }
    unsigned value = 0;
    const bool digits = !port.empty() && port.size() <= 5 && all(port, is_digit);
    for (const char c : digits ? port : std::string_view{}) {
      value = value * 10 + static_cast<unsigned>(c - '0');
    }
    if (!digits || value > 65535) {
      return fail("the port " + quote_for_message(port, 20) + " is not a number from 0 to 65535");
    }
    url_.port = static_cast<std::uint16_t>(value);
    return true;
  }

  bool take_path(std::string_view path) {
    if (path.find('#') != std::string_view::npos) {
      return fail("a part after '#' has no meaning here; remove it");
    }
    if (!url_.is_websocket()) {
      return path.empty() || path == "/" || fail("a " + scheme() + " URL has no path; remove what follows the port");
    }
    for (const char c : path) {
      if (static_cast<unsigned char>(c) >= 0x80 || c == '"' || c == '<' || c == '>' || c == '\\') {
        return fail("the path contains a character that does not belong into a URL; write it as %NN");
      }
    }
    url_.path = path.empty() || path.front() != '/' ? "/" + std::string(path) : std::string(path);
    return true;
  }

  std::string_view text_;
  std::string_view rest_;
  Url url_;
  std::string error_;
};

}  // namespace

std::string_view scheme_name(Scheme scheme) noexcept { return kSchemes[static_cast<std::size_t>(scheme)]; }

std::string quote_for_message(std::string_view text, std::size_t limit) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "'";
  for (const char c : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out + (text.size() > limit ? "...'" : "'");
}

ParsedUrl parse_url(std::string_view text) {
  ParsedUrl parsed = Parser(text).parse();
  SETSUNA_ASSERT(parsed.url.has_value() == parsed.error.empty());
  return parsed;
}

std::string format_url(const Url& url) {
  std::string out = std::string(scheme_name(url.scheme)) + "://";
  if (url.is_local()) {
    return out + url.path;
  }
  out += url.ipv6 ? "[" + url.host + "]" : url.host;
  out += ":" + std::to_string(url.port);
  return out + (url.is_websocket() ? url.path : std::string());
}

}  // namespace setsuna::net
