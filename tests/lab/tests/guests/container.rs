//! leafboot in a container, as an operator installs it: the image is built, and Debian's systemd has Docker run it as
//! `systemd/leafboot-container.service` says.

use std::path::Path;

use crate::service::{
    self, CURL, PORT, REPOSITORY, advertises, boots, is_confined, journal, property, relays, started,
    warnings,
};
use leafboot_lab::host::Error;
use leafboot_lab::host::lab::{Images, Lab, Programs};
use leafboot_lab::host::leaf::Init;
use leafboot_lab::host::process::run;
use leafboot_lab::site;

/// The leaf's Docker, whose containers use its network.
const DOCKER: &str = "[Service]\nType=notify\nExecStart=dockerd --bridge=none --iptables=false --ip-forward=false \
    --storage-driver=vfs --data-root=/var/docker\n";

#[test]
fn the_image_boots_machines() -> Result<(), String> {
    let programs = Programs::beside(Path::new(env!("CARGO_BIN_EXE_lab")));
    let story = |lab: &mut Lab| {
        prepare(lab)?;
        build(lab, &programs.leafboot)?;
        install(lab)?;
        boots(lab)?;
        resolves_names()?;
        is_confined(lab, &pid(lab)?, &["/", "/etc/leafboot"])?;
        is_restarted(lab)?;
        is_clean(lab)
    };
    Lab::with_init(&programs, Init::Systemd, story).map_err(|error| {
        eprintln!("{error}");
        "the container does not hold".to_owned()
    })
}

/// A leaf with Docker, and a resolver.
fn prepare(lab: &Lab) -> Result<(), Error> {
    started(lab)?;
    lab.leaf.run(&["mkdir", "-p", "/etc/ssl/certs"])?;
    let write = |path: &str, text: &str| lab.leaf.run_with(&["tee", path], text).map(drop);
    write("/etc/systemd/system/docker.service", DOCKER)?;
    lab.leaf.run(&["systemctl", "start", "docker"])?;
    write("/etc/resolv.conf", &format!("nameserver {}\n", site::RESOLVER))
}

/// `docker build`, of this build's binary.
fn build(lab: &Lab, leafboot: &Path) -> Result<(), Error> {
    let context = lab.log("image").with_extension("context");
    let copy = |from: &Path, to: &str| {
        let to = context.join(to);
        let directory = to.parent().unwrap_or(&context);
        std::fs::create_dir_all(directory).map_err(Error::file(directory))?;
        std::fs::copy(from, &to).map_err(Error::file(from))?;
        Ok::<_, Error>(to.display().to_string())
    };
    let binary = copy(leafboot, "target/host/release/leafboot")?;
    // The guest has room for little, and a copy of it goes into the image.
    run(&["strip", &binary])?;
    copy(&Path::new(REPOSITORY).join(".dockerignore"), ".dockerignore")?;
    let file = copy(&Path::new(REPOSITORY).join("sonic/Containerfile"), "sonic/Containerfile")?;
    let context = context.display().to_string();
    lab.leaf.run(&["docker", "build", "--quiet", "--file", &file, "--tag", "leafboot", &context]).map(drop)
}

/// Installs leafboot with a cache that has only a name, and a more detailed log.
fn install(lab: &Lab) -> Result<(), Error> {
    lab.set_images(Images::Proxy)?;
    let by_name = format!("origins = [\"http://{}\"]", site::CACHE_NAME);
    lab.configure(&format!("origins = [\"http://[{}]\"]", site::CACHE), &by_name)?;
    let settings = "/etc/systemd/system/leafboot.service.d";
    lab.leaf.run(&["mkdir", "-p", settings])?;
    let log = "[Service]\nEnvironment=LEAFBOOT_LOG=debug\n";
    lab.leaf.run_with(&["tee", &format!("{settings}/log.conf")], log)?;
    service::install(lab, "leafboot-container.service")
}

/// The C library's resolver works without the library's own files in the image.
fn resolves_names() -> Result<(), Error> {
    let url = format!("http://[{}]{}", PORT.gateway(), site::IMAGE);
    let image = run(&[&CURL, ["-f", &url].as_slice()].concat())?;
    assert!(image.starts_with("an operating system image"), "{image}");
    Ok(())
}

fn pid(lab: &Lab) -> Result<String, Error> {
    let pid = lab.leaf.run(&["docker", "inspect", "--format", "{{.State.Pid}}", "leafboot"])?;
    Ok(pid.trim().to_owned())
}

/// After a restart no push is needed, and a mount of the API's directory stays valid.
fn is_restarted(lab: &Lab) -> Result<(), Error> {
    let (first, directory) = (pid(lab)?, service::directory(lab)?);
    lab.leaf.run(&["systemctl", "restart", "leafboot"])?;
    relays()?;
    advertises(lab)?;
    assert_ne!(pid(lab)?, first);
    assert_eq!(service::directory(lab)?, directory);
    Ok(())
}

/// It logs to the journal, as much as its unit says, and ends when it is stopped.
fn is_clean(lab: &Lab) -> Result<(), Error> {
    let environment = format!("tr '\\0' '\\n' </proc/{}/environ", pid(lab)?);
    let environment = lab.leaf.run(&["sh", "-c", &environment])?;
    assert!(environment.contains("LEAFBOOT_LOG=debug\n"), "{environment}");
    let journal = journal(lab)?;
    assert!(journal.contains("relayed"), "{journal}");
    assert_eq!(warnings(lab)?, "");
    lab.leaf.run(&["systemctl", "stop", "leafboot"])?;
    assert_eq!(property(lab, "Result")?, "success");
    assert_eq!(lab.leaf.run(&["docker", "ps", "--quiet"])?, "");
    Ok(())
}
