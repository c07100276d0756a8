#!/usr/bin/env perl
# Rules of the sources that no compiler checks. Prints `file:line: what is wrong`, exits 1 if it printed anything.
# Run at the root of the checkout.
use strict;
use warnings;

my $findings = 0;

sub finding {
  my ($file, $line, $text) = @_;
  print "$file:$line: $text\n";
  $findings++;
}

sub slurp {
  my ($file) = @_;
  open my $in, '<', $file or die "$file: $!";
  local $/;
  my $text = <$in> // '';
  utf8::decode($text);
  return $text;
}

sub line_of {
  my ($text, $at) = @_;
  return 1 + (substr($text, 0, $at) =~ tr/\n//);
}

# Comments and strings blanked out, every offset and line kept. A quote after a digit is a separator.
sub code_only {
  my ($text) = @_;
  $text =~ s{(//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|(?<![0-9a-fA-F])'(?:[^'\\\n]|\\.)*')}{
    my $hit = $1;
    $hit =~ s/[^\n]/ /g;
    $hit
  }gse;
  return $text;
}

# With find(1): Debian's minimal perl has no File::Find.
sub files_in {
  my ($pattern, @folders) = @_;
  @folders = grep { -d } @folders or return;
  open my $out, '-|', 'find', @folders, '-type', 'f' or die "find: $!";
  chomp(my @files = <$out>);
  return sort grep { $_ =~ $pattern && !m{/core/} } @files;
}

my @sources = files_in(qr/\.(cpp|hpp)$/, qw(runtime net dispatch rbridge bench tests));

# rbridge -> dispatch -> net -> runtime: a folder sees itself and what stands after it.
my @order = qw(rbridge dispatch net runtime);

sub check_arrows {
  my ($file, $text) = @_;
  my ($own) = $file =~ m{^(\w+)/};
  my ($from) = grep { $order[$_] eq $own } 0 .. $#order;
  return unless defined $from;
  while ($text =~ /^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]/mg) {
    my ($included, $line) = ($1, line_of($text, $-[0]));
    my ($target) = $included =~ m{^(\w+)/};
    my ($to) = grep { defined $target && $order[$_] eq $target } 0 .. $#order;
    finding($file, $line, "$own/ may not include $included (rbridge -> dispatch -> net -> runtime)")
      if defined $to && $to < $from;
    finding($file, $line, "$own/ may not include tests, bench or tools: $included")
      if defined $target && $target =~ /^(tests|bench|tools)$/;
    finding($file, $line, "$own/ may not know R: $included")
      if $own ne 'rbridge' && $included =~ m{^(R\.h|Rinternals\.h|Rembedded\.h|Rinterface\.h|Rversion\.h|R_ext/)};
    finding($file, $line, "dispatch/ makes no system call, it acts through its interfaces: $included")
      if $own eq 'dispatch' && $included =~ m{^(sys/|linux/|unistd\.h|fcntl\.h|poll\.h|pthread\.h|signal\.h|csignal|liburing)};
  }
}

# Atomic operations whose memory order is left to the default. Tests' own atomics included: an unnamed order in a test
# hides what the code under test relies on.
my $operation = qr/(?:\.|->)\s*(load|store|exchange|compare_exchange_weak|compare_exchange_strong|fetch_\w+|test_and_set)\s*(\((?:[^()]++|(?2))*\))/;

sub check_orders {
  my ($file, $code) = @_;
  while ($code =~ /$operation/g) {
    my ($name, $arguments, $at) = ($1, $2, $-[0]);
    next if $arguments =~ /memory_order|\bk(Relaxed|Acquire|Release|AcqRel|SeqCst)\b|\b\w*order\w*\b/i;
    finding($file, line_of($code, $at), "$name() without a memory order");
  }
  while ($code =~ /\b(std::)?atomic_thread_fence\s*\(/g) {
    finding($file, line_of($code, $-[0]), "a fence: ThreadSanitizer does not model it; order by read-modify-writes");
  }
}

# Nothing in the product sleeps for a time, polls or gives up its time slice.
my %sleeps_for_a_reason = (
  'rbridge/setsuna/R/mirai.R' => 'msleep() is a sleep',
  'rbridge/setsuna/R/sigint.R' => 'the shortest sleep, for what R does around it',
  'rbridge/setsuna/R/dial.R' => 'no event tells that a name starts to be listened at',
);

sub check_waiting {
  my ($file, $code) = @_;
  return if $sleeps_for_a_reason{$file};
  my $waiting = qr/\b(this_thread::\w+_(?:for|until)|this_thread::yield|usleep|nanosleep|clock_nanosleep|sched_yield|Sys\.sleep)\b/;
  while ($code =~ /$waiting/g) {
    finding($file, line_of($code, $-[0]), "$1: wait for the event itself");
  }
  while ($code =~ /(?:\.|->)\s*(wait\s*\([^()]*memory_order|notify_(?:one|all)\s*\(\s*\))/g) {
    finding($file, line_of($code, $-[0]), "std::atomic::wait and notify are process-private in libstdc++: use runtime/futex.hpp")
      if $file =~ m{^runtime/};
  }
}

# clang-format bounds code at 120; comments get a little more.
sub check_width {
  my ($file, $text) = @_;
  my $line = 0;
  for (split /\n/, $text) {
    $line++;
    finding($file, $line, 'longer than 128 columns') if length > 128;
  }
}

my %orderings;    # name -> [file, line] of each banner

for my $file (@sources) {
  my $text = slurp($file);
  my $code = code_only($text);
  check_width($file, $text);
  check_arrows($file, $text);
  check_orders($file, $code) if $file =~ m{^runtime/};
  check_waiting($file, $code) if $file =~ m{^(runtime|net|dispatch|rbridge)/};
  if ($file =~ m{^(runtime|net|dispatch|rbridge)/}) {
    while ($text =~ m{//.*?ORDERING ([\w/-]+)}g) {
      push @{ $orderings{$1} }, [$file, line_of($text, $-[0])];
    }
    finding($file, 1, 'a header starts with #pragma once') if $file =~ /\.hpp$/ && $code !~ /\A\s*#pragma once/;
  }
}
for my $name (sort keys %orderings) {
  my @ends = @{ $orderings{$name} };
  finding(@{ $ends[0] }, "ORDERING $name has one end only: name it at the other side too") if @ends == 1;
}

# Tests sit where the build looks for them.
for my $file (grep { m{^tests/} } @sources) {
  my $is_test = $file =~ m{/(test_[^/]*|[^/]*_test)\.cpp$};
  finding($file, 1, 'defines tests but is not named *_test.cpp, so it is not built as a test')
    if !$is_test && $file =~ /\.cpp$/ && code_only(slurp($file)) =~ /^\s*TEST(_F|_P)?\s*\(/m;
}

# The same for the R side.
for my $file (files_in(qr/\.R$/, 'rbridge/setsuna/R')) {
  (my $code = slurp($file)) =~ s{#[^\n]*}{}g;
  check_waiting($file, $code);
}

exit($findings > 0);
