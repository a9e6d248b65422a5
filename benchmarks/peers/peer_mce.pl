# peer_mce.pl QUESTION: Perl's MCE, worker processes behind MCE::Map.
use strict;
use warnings;
use File::Temp qw(tempfile);
use MCE::Map;
use Time::HiRes qw(clock_gettime usleep CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID);

use constant { WORKERS => 2, PAYLOAD => 1 << 20 };

sub answer {
    my ($question, $setting, $value, $unit, $note) = @_;
    printf qq({"question": "%s", "setting": "%s", "value": %.6g, "unit": "%s", "note": "%s"}\n), $question, $setting, $value, $unit,
        $note // '';
}

sub seconds {
    my ($run) = @_;
    my $start = clock_gettime(CLOCK_MONOTONIC);
    $run->();
    return clock_gettime(CLOCK_MONOTONIC) - $start;
}

# The workers of a map live on as long as it is the same block, so a function is made once and given to each map.
my $same = sub { $_ };

sub setup {
    my ($workers, $chunk) = @_;
    MCE::Map->finish;
    MCE::Map->init(max_workers => $workers, chunk_size => $chunk);
}

# For counts that grow until it takes 0.2 s: items a second of the last.
sub rate_of_map {
    my ($chunk, $most) = @_;
    setup(WORKERS, $chunk);
    for (my $count = 1000;; $count *= 10) {
        my @items = (1 .. $count);
        &MCE::Map::run($same, @items[0 .. 1]);
        my $took = seconds(sub { my @results = &MCE::Map::run($same, @items) });
        return $count / $took if $took >= 0.2 || $count >= $most;
    }
}

sub ask_map {
    answer('map', 'default', rate_of_map('auto', 1_000_000) / 1e6, 'M items/s');
    my ($best, $best_chunk) = (0, 0);
    for my $chunk (1000, 10000, 50000) {
        my $rate = rate_of_map($chunk, 1_000_000);
        ($best, $best_chunk) = ($rate, $chunk) if $rate > $best;
    }
    answer('map', 'best chunk size', $best / 1e6, 'M items/s', "chunks of $best_chunk");
}

sub ask_tasks {
    answer('tasks', 'default', rate_of_map(1, 100_000) / 1e6, 'M/s', 'mce_map with chunks of 1');
}

sub ask_roundtrip {
    setup(1, 1);
    my @item = (1);
    my $trip = sub { my @result = &MCE::Map::run($same, @item) };
    $trip->() for 1 .. 50;
    my @us = sort { $a <=> $b } map { 1e6 * seconds($trip) } 1 .. 1000;
    answer('roundtrip', 'median', $us[$#us / 2], 'us', 'mce_map of one item');
    answer('roundtrip', '99th percentile', $us[$#us * 0.99], 'us', 'mce_map of one item');
}

# Until as many as are expected have come: so each worker comes once.
sub meet {
    my ($path, $workers) = @_;
    open my $file, '>>', $path or die "$path: $!";
    syswrite $file, 'x';
    usleep(200) while -s $path < $workers;
}

sub ask_start {
    for my $workers (2, 16) {
        my ($file, $path) = tempfile(UNLINK => 1);
        my $took = seconds(sub {
            setup($workers, 1);
            mce_map { meet($path, $workers) } 1 .. $workers;
        });
        answer('start', "$workers workers", $took * 1e3, 'ms', 'fork');
    }
}

sub ask_echo {
    setup(1, 1);
    my @payload = ('x' x PAYLOAD);
    my $send = sub { my @result = &MCE::Map::run($same, @payload) };
    $send->();
    my $took = seconds(sub { $send->() for 1 .. 40 });
    answer('echo', '1 MiB', 2 * PAYLOAD * 40 / $took / 1e9, 'GB/s', 'mce_map of one item');
}

my $spin = sub {
    my $end = clock_gettime(CLOCK_PROCESS_CPUTIME_ID) + $_ / 1e6;
    1 while clock_gettime(CLOCK_PROCESS_CPUTIME_ID) < $end;
    0;
};

sub ask_uneven {
    open my $file, '<', $ENV{PEER_COSTS} or die "PEER_COSTS: $!";
    chomp(my @costs = <$file>);
    my ($ideal, $longest) = (0, 0);
    for (@costs) {
        $ideal += $_ / WORKERS / 1e6;
        $longest = $_ / 1e6 if $_ / 1e6 > $longest;
    }
    $ideal = $longest if $longest > $ideal;
    for (['default', 'auto'], ['one by one', 1]) {
        my ($setting, $chunk) = @$_;
        setup(WORKERS, $chunk);
        my @warm_up = (0, 0);
        &MCE::Map::run($spin, @warm_up);
        answer('uneven', $setting, seconds(sub { &MCE::Map::run($spin, @costs) }) / $ideal, 'x ideal');
    }
}

my %questions = (map => \&ask_map, tasks => \&ask_tasks, roundtrip => \&ask_roundtrip, start => \&ask_start, echo => \&ask_echo,
                 uneven => \&ask_uneven);
if (my $ask = $questions{$ARGV[0] // ''}) {
    $ask->();
    MCE::Map->finish;
}
