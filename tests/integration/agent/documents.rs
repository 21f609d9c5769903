//! Files that are merged from several sources, and env files.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::setup::{SOON, Setup};

#[tokio::test]
async fn merged_files_follow_each_of_their_sources() -> Result<()> {
    Setup::shared("merged", async |setup| {
        let (case, mount) = (&setup.case, setup.case.kv_mount.clone());
        let rules = format!("path \"{mount}/data/*\" {{ capabilities = [\"read\"] }}\n");
        case.admin.policy(&case.role, &rules).await?;
        let app = json!({"server": {"port": 8443, "hosts": ["a.example.com"]}, "spring": {"datasource": {"pool": 1.50}}});
        case.put(&app).await?;
        let database = |password: &str| json!({"url": "jdbc:pg", "driver-class-name": "org.Driver", "password": password});
        for password in ["Losungwort der Datenbank", "Stichwort der Datenbank"] {
            case.leaks.plant(password);
        }
        case.admin.put_kv(&mount, "webapp/db", &database("Losungwort der Datenbank")).await?;
        let merge = "merge: [{source: app}, {source: db, under: /spring/datasource, rename: {url: jdbc-url}}]";
        let outputs: String = [("yaml", "a.yaml"), ("json", "a.json"), ("toml", "a.toml"), ("properties", "a.properties"), ("dotenv", "a.env"), ("env-file", "k.env")]
            .map(|(format, file)| format!("- {{file: {file}, format: {format}, {merge}}}\n"))
            .concat();
        let document = format!(
            "sources:\n  app: {{path: {}, refresh: 1s}}\n  db: {{path: {mount}/webapp/db, refresh: 1s}}\noutputs:\n{outputs}",
            case.secret_path()
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        let expected = |password: &str| {
            format!(
                "SERVER_HOSTS_0='a.example.com'\nSERVER_PORT='8443'\nSPRING_DATASOURCE_DRIVERCLASSNAME='org.Driver'\n\
                 SPRING_DATASOURCE_JDBCURL='jdbc:pg'\nSPRING_DATASOURCE_PASSWORD='{password}'\n\
                 SPRING_DATASOURCE_POOL='1.5'\n"
            )
        };
        setup.file_is(&mut agent, "k.env", &expected("Losungwort der Datenbank")).await?;
        assert_eq!(case.read("a.env"), Some(expected("Losungwort der Datenbank")));
        let wanted = |password: &str| {
            json!({"server": {"port": 8443, "hosts": ["a.example.com"]}, "spring": {"datasource": {
                "pool": 1.5, "jdbc-url": "jdbc:pg", "driver-class-name": "org.Driver", "password": password}}})
        };
        let parsed = || -> Result<[Value; 3]> {
            let text = |file| case.read(file).with_context(|| format!("file {file}"));
            let yaml = serde_saphyr::from_str(&text("a.yaml")?)?;
            Ok([yaml, serde_json::from_str(&text("a.json")?)?, toml::from_str(&text("a.toml")?)?])
        };
        assert_eq!(parsed()?, [(); 3].map(|()| wanted("Losungwort der Datenbank")));
        let properties = case.read("a.properties").context("the file")?;
        assert!(properties.contains("spring.datasource.password=Losungwort der Datenbank\n"), "{properties}");
        assert!(properties.contains("server.hosts[0]=a.example.com\n"), "{properties}");

        case.admin.put_kv(&mount, "webapp/db", &database("Stichwort der Datenbank")).await?;
        setup.file_is(&mut agent, "k.env", &expected("Stichwort der Datenbank")).await?;
        assert_eq!(parsed()?, [(); 3].map(|()| wanted("Stichwort der Datenbank")), "all files change in one set");
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn value_that_an_env_file_cannot_contain_is_reported_without_the_value() -> Result<()> {
    Setup::shared("env-file", async |setup| {
        setup.case.put(&json!({"A": "fine", "B": "zwei\nZeilen mit \"$X\""})).await?;
        let document = format!(
            "sources: {{s: {{path: {}, refresh: 1s}}}}\noutputs:\n- {{source: s, format: env-file, file: s.env}}\n",
            setup.case.secret_path()
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        let fine = "A='fine'\nB='zwei\nZeilen mit \"$X\"'\n";
        setup.file_is(&mut agent, "s.env", fine).await?;
        setup.case.put(&json!({"A": "Geheimnis mit ' darin"})).await?;
        let part = "source s: the value of key \\\"A\\\" contains a single quote";
        let line = agent.wait_for_log(part, SOON).await?;
        assert!(line.contains("RenderFailed") && line.contains("failed to render file s.env"), "{line}");
        assert_eq!(setup.case.read("s.env").as_deref(), Some(fine), "the last good file stays");
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}
