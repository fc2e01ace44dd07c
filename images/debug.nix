# What a debug image has and no release image: a shell on the console.
{ image, sources, base }: {
  layer = image.layer {
    name = "debug";
    description = "Shell for debug images";
    packages = sources.debs "trixie" [ "seed" ];
    list = ./debug/files.list;
    above = base;
    allowShell = true;
    erofs = "-zlz4";
  };
  files = ./debug/app;
}
