# A program in Go for tests alone: it shows that a language of its own can read and use the mesh's certificates.
{ sources, builders }:
{
  go-peer = builders.runInRoot {
    name = "go-peer";
    description = "Program in Go that reads and uses certificates of the mesh; for tests";
    root = builders.unpackDebs {
      name = "go-root";
      debs = sources.debs "trixie" [ "tools" "go" ];
    };
    # Nothing but Go's standard library, which it compiles first; without cgo, the program needs no library of a system.
    script = builtins.toFile "build.sh" ''
      export PATH=/usr/lib/go-1.24/bin:$PATH CGO_ENABLED=0 GO111MODULE=off GOCACHE=/tmp/cache GOPATH=/tmp/path \
        GOENV=off GOTOOLCHAIN=local GOTELEMETRY=off
      cp $source peer.go
      unformatted=$(gofmt -l peer.go)
      [ -z "$unformatted" ] || { echo "run gofmt -w on tests/go/$unformatted" >&2; exit 1; }
      go vet peer.go
      mkdir -p $out/bin
      nice go build -trimpath -buildvcs=false -ldflags='-s -w -buildid=' -o $out/bin/peer peer.go
    '';
    env.source = builders.folder "peer.go" ../tests/go/peer.go;
  };
}
