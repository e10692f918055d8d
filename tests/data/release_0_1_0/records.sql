BEGIN TRANSACTION;
CREATE TABLE access_tokens (
	name VARCHAR(255) NOT NULL, 
	digest VARCHAR(255) NOT NULL, 
	roles VARCHAR(255) NOT NULL, 
	created_by TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME, 
	used_at DATETIME, 
	signature TEXT, 
	CONSTRAINT pk_access_tokens PRIMARY KEY (name)
);
CREATE TABLE announcements (
	"key" VARCHAR(255) NOT NULL, 
	at DATETIME NOT NULL, 
	message TEXT NOT NULL, 
	CONSTRAINT pk_announcements PRIMARY KEY ("key")
);
CREATE TABLE approvals (
	run_id VARCHAR(255) NOT NULL, 
	digest VARCHAR(255) NOT NULL, 
	asked_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	decision VARCHAR(255) NOT NULL, 
	who TEXT NOT NULL, 
	remark TEXT NOT NULL, 
	decided_at DATETIME, 
	seal VARCHAR(255), 
	CONSTRAINT pk_approvals PRIMARY KEY (run_id)
);
INSERT INTO "approvals" VALUES('20260310-010000-aaaaaa','42575878105a02ca04b1e1914973e5b79a06132832f7824627b1a63d7307c23b','2026-03-10 01:00:00.001000','2026-03-10 04:45:00.001000','approved','anna','tested on web-0','2026-03-10 01:01:00.001000','f2192c68:4395e84bc2c589358e80daa3c262c234848575e265a56f94473a2d8fc66abbdb');
CREATE TABLE assessment_updates (
	number INTEGER NOT NULL, 
	assessment INTEGER NOT NULL, 
	machine VARCHAR(255) NOT NULL, 
	update_id VARCHAR(255) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	arch VARCHAR(255) NOT NULL, 
	classification VARCHAR(255) NOT NULL, 
	severity VARCHAR(255) NOT NULL, 
	installed TEXT, 
	available TEXT NOT NULL, 
	kb VARCHAR(255) NOT NULL, 
	held BOOLEAN NOT NULL, 
	blocked TEXT NOT NULL, 
	published DATETIME, 
	title TEXT, 
	since DATETIME, 
	CONSTRAINT pk_assessment_updates PRIMARY KEY (number), 
	CONSTRAINT fk_assessment_updates_assessment_assessments FOREIGN KEY(assessment) REFERENCES assessments (number) ON DELETE CASCADE
);
INSERT INTO "assessment_updates" VALUES(1,4,'web-2','held','held','all','Other','','1.0','2.0','',1,'',NULL,'','2026-03-10 01:00:00.001000');
INSERT INTO "assessment_updates" VALUES(2,5,'db-1','libc','libc','all','Security','','1.0','2.0','',0,'',NULL,'','2026-03-10 02:02:05.950712');
INSERT INTO "assessment_updates" VALUES(3,6,'db-2','libc','libc','all','Security','','1.0','2.0','',0,'',NULL,'','2026-03-10 02:02:05.950712');
CREATE TABLE assessments (
	number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	run_id VARCHAR(255) NOT NULL, 
	machine VARCHAR(255) NOT NULL, 
	at DATETIME NOT NULL, 
	known BOOLEAN NOT NULL, 
	compliance VARCHAR(255) NOT NULL, 
	urgent INTEGER NOT NULL, 
	other INTEGER NOT NULL, 
	reboot VARCHAR(255) NOT NULL, 
	os_id VARCHAR(255) NOT NULL, 
	os_version VARCHAR(255) NOT NULL, 
	error_kind VARCHAR(255) NOT NULL, 
	error_message TEXT NOT NULL, 
	document TEXT NOT NULL, 
	updates BLOB, 
	seal VARCHAR(255), 
	CONSTRAINT uq_assessments_machine_at_run_id UNIQUE (machine, at, run_id)
);
INSERT INTO "assessments" VALUES(1,'20260310-010000-aaaaaa','web-1','2026-03-10 01:00:00.001000',1,'NonCompliant',1,1,'no','fake','1','','','{"machine":"web-1","at":"2026-03-10T01:00:00.001000+00:00","seconds":0.0,"facts":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-1-boot-1","uptime_seconds":864000.001,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"failed":[],"listening":["tcp/22","tcp/443"],"known":true,"listeners":[{"name":"tcp/22","program":"","unit":""},{"name":"tcp/443","program":"","unit":""}],"running":[],"ended":[],"late":[],"late_start_seconds":0.0,"active_units":[]},"boot_epoch":1772240400.0,"findings":[],"machine_id":"","instance_id":"","boot_work":"","clock_error_seconds":0.0,"support_end":""},"packages":{"manager":"fake","updates":[],"reboot":{"answer":"no","reasons":[],"mitigated_by":"","since":null},"held":[],"problems":[],"repairable":false,"lock_holder":"","auto_updaters":[],"warnings":[],"services_to_restart":[],"unfinished":[],"failed_scripts":[],"at_work":"","updater_units":[],"live_patching":null,"repository_problems":[],"unpausable_updaters":[],"non_installing_updaters":[],"hotpatch":null,"can_install_others":false,"remarks":[],"interrupted":false},"error":null,"run_id":"20260310-010000-aaaaaa"}',X'789CED92CD6EC3200CC7DF857334753DF62576D871AA90439CC4AA0B192691BAAAEF3E0349B79ED7E338E1AF3F3FDB5CCD3C759050CCE1E36AA833071326F4226C1AE3E18C0F0E886E54077036C84BD21BE69AD7975D0E2F400C2DE7A27DF1380611EAC941A2E0D5FD8E6E8E942E1A135CB05C0F46AD10695045C5303D9CD01CB578C9587E66D664FA42DB5E0AE87EA7A731430CF3F48037222B4C0F2CD89896833B15388D44FC9C29A2D8886D0869533DB5353CCD2D938C39BB06224E0CAE4CE598492BB45560A97D68D182BE0BD1BA11FC80D555EF62EB1B2B08740B89B6B7A9AD03B767F03060BCE7254ABCEA84298F0BB85A1EB113CBE4D03BBCA7D74EB421908D682065B2652859843B8C1BF2FA7696C24E07F9A35C4C5B1655096FCDFA11B4E95FBF60B5FEFE05DED2A85D3F6FFF2BD8FFF29FB2FCE3ED1BF1C45BAA','4189c07a:5e20c2a26883336562b870f2d5caddf52c3cd527df9df9632d2b7ca51f4f1155');
INSERT INTO "assessments" VALUES(2,'20260310-010000-aaaaaa','web-2','2026-03-10 01:00:00.001000',1,'NonCompliant',1,2,'no','fake','1','','','{"machine":"web-2","at":"2026-03-10T01:00:00.001000+00:00","seconds":0.0,"facts":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-2-boot-1","uptime_seconds":864000.001,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"failed":[],"listening":["tcp/22","tcp/443"],"known":true,"listeners":[{"name":"tcp/22","program":"","unit":""},{"name":"tcp/443","program":"","unit":""}],"running":[],"ended":[],"late":[],"late_start_seconds":0.0,"active_units":[]},"boot_epoch":1772240400.0,"findings":[],"machine_id":"","instance_id":"","boot_work":"","clock_error_seconds":0.0,"support_end":""},"packages":{"manager":"fake","updates":[],"reboot":{"answer":"no","reasons":[],"mitigated_by":"","since":null},"held":["held"],"problems":[],"repairable":false,"lock_holder":"","auto_updaters":[],"warnings":[],"services_to_restart":[],"unfinished":[],"failed_scripts":[],"at_work":"","updater_units":[],"live_patching":null,"repository_problems":[],"unpausable_updaters":[],"non_installing_updaters":[],"hotpatch":null,"can_install_others":false,"remarks":[],"interrupted":false},"error":null,"run_id":"20260310-010000-aaaaaa"}',X'789CED933B6EC3300C40EFA2D928D28CB944878E4520D012630B662457940DA441EE5E4AB21D646E860EF1C4BF1E3FBEAA69B49090D5E1EBAA9C55071546F4CCA41AE5E18C0F0688A6170350569CE72412E69CF7B75D76CFE0085ACA49FB623104CCEEE40C2417BC983FD14CD1A58BF818672CE2418916A2EBA4A260A8130CA88E923C672C3F1149B0FB41DD5E0AE87E275FA3BA18A6F101AF471298131063A35A0A662870E289F83DB988AC23B621A4B5EAD056F738B5E4B8CFD1D511712430652AC74C5AA1B50073ED439266F436446D7AF01D56539559D7371610B0B363696FADB60C5C9FC14387718B4B2ED152278C795C4055F38896353983DEE0165E3B91868057A2CE09932E43C945C8625C9197B77329B432C87BE5A2EAB2A84A786B964328E3DCAE60D1FE7E021FA997AE9FB7FF05AC2E3FC5E9B5FB27ECBE8D61407FDFFEA6FFBFFD6F68AFDFFF292770BCFD02EA6B0635','4189c07a:4021de94b4edaf0e75c66a796e020929c32defd53a5c6236bb690e383149f78f');
INSERT INTO "assessments" VALUES(3,'20260310-010000-aaaaaa','web-1','2026-03-10 01:01:35.062000',1,'Compliant',0,0,'no','fake','1','','','{"machine":"web-1","at":"2026-03-10T01:01:35.062000+00:00","seconds":0.0,"facts":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-1-boot-1","uptime_seconds":864095.062,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"failed":[],"listening":["tcp/22","tcp/443"],"known":true,"listeners":[{"name":"tcp/22","program":"","unit":""},{"name":"tcp/443","program":"","unit":""}],"running":[],"ended":[],"late":[],"late_start_seconds":0.0,"active_units":[]},"boot_epoch":1772240400.0,"findings":[],"machine_id":"","instance_id":"","boot_work":"","clock_error_seconds":0.0,"support_end":""},"packages":{"manager":"fake","updates":[],"reboot":{"answer":"no","reasons":[],"mitigated_by":"","since":null},"held":[],"problems":[],"repairable":false,"lock_holder":"","auto_updaters":[],"warnings":[],"services_to_restart":[],"unfinished":[],"failed_scripts":[],"at_work":"","updater_units":[],"live_patching":null,"repository_problems":[],"unpausable_updaters":[],"non_installing_updaters":[],"hotpatch":null,"can_install_others":false,"remarks":[],"interrupted":false},"error":null,"run_id":"20260310-010000-aaaaaa"}',X'789CAB562A2D48492C492D56B28A8EAD0500270E0525','4189c07a:0746b93b50e0cfbc471a629e89c1d4329b4bc40ee3ae8fab1c5a867821e18e2c');
INSERT INTO "assessments" VALUES(4,'20260310-010000-aaaaaa','web-2','2026-03-10 01:02:05.949712',1,'NonCompliant',0,1,'no','fake','1','','','{"machine":"web-2","at":"2026-03-10T01:02:05.949712+00:00","seconds":0.0,"facts":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-2-boot-1","uptime_seconds":864125.949712,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"failed":[],"listening":["tcp/22","tcp/443"],"known":true,"listeners":[{"name":"tcp/22","program":"","unit":""},{"name":"tcp/443","program":"","unit":""}],"running":[],"ended":[],"late":[],"late_start_seconds":0.0,"active_units":[]},"boot_epoch":1772240400.0,"findings":[],"machine_id":"","instance_id":"","boot_work":"","clock_error_seconds":0.0,"support_end":""},"packages":{"manager":"fake","updates":[],"reboot":{"answer":"no","reasons":[],"mitigated_by":"","since":null},"held":["held"],"problems":["broken 2.0 is half-configured"],"repairable":true,"lock_holder":"","auto_updaters":[],"warnings":[],"services_to_restart":[],"unfinished":[{"id":"broken","name":"broken","arch":"all","version":"2.0","status":"half-configured","failure":""}],"failed_scripts":[],"at_work":"","updater_units":[],"live_patching":null,"repository_problems":[],"unpausable_updaters":[],"non_installing_updaters":[],"hotpatch":null,"can_install_others":false,"remarks":[],"interrupted":true},"error":null,"run_id":"20260310-010000-aaaaaa"}',X'789C4591DD6EC3200C85DF85EB6AEA7AD997D8034C1172C049ACB8906188D4557DF71968D6DCC0F1CFE1B3F33065F39051CCF5FB61C89BAB5990BD399900377C2B486E5105CC2A2848D61BD6EACF8F734DEF400C23D78E4B8B3806119AC841A61834FC95174C9A10DC3151BE6B48554C34AB9DBE6E2658D10CDAB9579A5098B5987ED18EF7C67739EB7732738A657B83B5E39A53C1931939BAB5516922E14FA18462138E31E6C3711D7B7A2B23932CB5BA27126E0CAE2D62A894AE544AABB0D207D0A61D838FC9BA05C28C3DD4EF62FB1B13B02808F89D44473BDC5E3BB6370830EB168EBA4C995F3E71AB7B02EE2A207AB14C0E83C3FFF23E890E047210CDA44CB62DA49AB0C77420BFDEAE56E875896FE7266DFB439DF0393CFF00C9ACAD14','4189c07a:a245a4b7a687324d4d0bd998c41e3c77c02331e202f5d771e555572042784db8');
INSERT INTO "assessments" VALUES(5,'20261127-024154-b0171e','db-1','2026-03-10 02:02:05.950712',1,'NonCompliant',1,0,'no','fake','1','','','{"machine":"db-1","at":"2026-03-10T02:02:05.950712+00:00","seconds":0.0,"facts":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"db-1-boot-1","uptime_seconds":864000.001,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"failed":[],"listening":["tcp/22","tcp/443"],"known":true,"listeners":[{"name":"tcp/22","program":"","unit":""},{"name":"tcp/443","program":"","unit":""}],"running":[],"ended":[],"late":[],"late_start_seconds":0.0,"active_units":[]},"boot_epoch":1772244125.949712,"findings":[],"machine_id":"","instance_id":"","boot_work":"","clock_error_seconds":0.0,"support_end":""},"packages":{"manager":"fake","updates":[],"reboot":{"answer":"no","reasons":[],"mitigated_by":"","since":null},"held":[],"problems":[],"repairable":false,"lock_holder":"","auto_updaters":[],"warnings":[],"services_to_restart":[],"unfinished":[],"failed_scripts":[],"at_work":"","updater_units":[],"live_patching":null,"repository_problems":[],"unpausable_updaters":[],"non_installing_updaters":[],"hotpatch":null,"can_install_others":false,"remarks":[],"interrupted":false},"error":null,"run_id":"20261127-024154-b0171e"}',X'789C45914D8EC2300C85EF92351A312CB9C62C47287212B7B53049274E2B01E2EEE3242D74E5E79F97CFEED32C73808262CEBF4F43C19C0D93F3E66022DCF0A320FB491530ABA0284523ACDDDF5FC75A5E81181CD78953CB7806111AC843A11435FD837EC954EE5A135CB18567A32A651AD55101CC005734171D5E2B505C98B5991E68DDBD219E8EFA1DCC98D3327FD82664251980050FC671F2D746A6958C7F0B65149BD1A55476CBABEBE579714C32D5EE5EC83833F8768C4BC5ECC45669A52FA1432BC690B2F513C4117BAAC762FB1B1B0884954477DBDDB63BDB1B441831BFFB0A15DE7CD25C6F05DC55440C62993C468FEFF6BE892E04B2138DA44CB65DA49A70C0BC236F6F572B0C7AC58F7393B6FDA54EF8BABCFE01E7E6AEAC','4189c07a:bca266a2dee95a4b837b1b74e305caf69758f408c6f18d7be4e7c1d0425d681d');
INSERT INTO "assessments" VALUES(6,'20261127-024154-b0171e','db-2','2026-03-10 02:02:05.950712',1,'NonCompliant',1,0,'no','fake','1','','','{"machine":"db-2","at":"2026-03-10T02:02:05.950712+00:00","seconds":0.0,"facts":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"db-2-boot-1","uptime_seconds":864000.001,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"failed":[],"listening":["tcp/22","tcp/443"],"known":true,"listeners":[{"name":"tcp/22","program":"","unit":""},{"name":"tcp/443","program":"","unit":""}],"running":[],"ended":[],"late":[],"late_start_seconds":0.0,"active_units":[]},"boot_epoch":1772244125.949712,"findings":[],"machine_id":"","instance_id":"","boot_work":"","clock_error_seconds":0.0,"support_end":""},"packages":{"manager":"fake","updates":[],"reboot":{"answer":"no","reasons":[],"mitigated_by":"","since":null},"held":[],"problems":[],"repairable":false,"lock_holder":"","auto_updaters":[],"warnings":[],"services_to_restart":[],"unfinished":[],"failed_scripts":[],"at_work":"","updater_units":[],"live_patching":null,"repository_problems":[],"unpausable_updaters":[],"non_installing_updaters":[],"hotpatch":null,"can_install_others":false,"remarks":[],"interrupted":false},"error":null,"run_id":"20261127-024154-b0171e"}',X'789C45914D8EC2300C85EF92351A312CB9C62C47287212B7B53049274E2B01E2EEE3242D74E5E79F97CFEED32C73808262CEBF4F43C19C0D93F3E66022DCF0A320FB491530ABA0284523ACDDDF5FC75A5E81181CD78953CB7806111AC843A11435FD837EC954EE5A135CB18567A32A651AD55101CC005734171D5E2B505C98B5991E68DDBD219E8EFA1DCC98D3327FD82664251980050FC671F2D746A6958C7F0B65149BD1A55476CBABEBE579714C32D5EE5EC83833F8768C4BC5ECC45669A52FA1432BC690B2F513C4117BAAC762FB1B1B0884954477DBDDB63BDB1B441831BFFB0A15DE7CD25C6F05DC55440C62993C468FEFF6BE892E04B2138DA44CB65DA49A70C0BC236F6F572B0C7AC58F7393B6FDA54EF8BABCFE01E7E6AEAC','4189c07a:fb29eee58c9bbdcbe25b296eeda08541a7eb35fc6868357efe5afc8dbce8c321');
CREATE TABLE audit_log (
	number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	at DATETIME NOT NULL, 
	who TEXT NOT NULL, 
	address TEXT NOT NULL, 
	act VARCHAR(255) NOT NULL, 
	subject TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	result VARCHAR(255) NOT NULL, 
	message TEXT NOT NULL, 
	source VARCHAR(255) NOT NULL, 
	claimed TEXT NOT NULL, 
	previous VARCHAR(255) NOT NULL, 
	key_id VARCHAR(255) NOT NULL, 
	seal VARCHAR(255) NOT NULL
);
INSERT INTO "audit_log" VALUES(1,'2026-11-27 02:41:54.461556','root','vm, uid 0','patch','name=db-1|db-2','{"wave_size": "1", "no_prefect": "True"}','begun','','os','','','ecb74113','b2100c19f74b817a535dd87391799103e38e4b13305256454886a39d87085d17');
INSERT INTO "audit_log" VALUES(2,'2026-11-27 02:41:54.593519','root','vm, uid 0','patch','name=db-1|db-2','{"wave_size": "1", "no_prefect": "True"}','failed','Killed:','os','','b2100c19f74b817a535dd87391799103e38e4b13305256454886a39d87085d17','ecb74113','b76d85c6253c498fd04cb6cdbf108d4ac8853959996ba8269ab42cf15eb88a84');
CREATE TABLE automatic_runs (
	"key" VARCHAR(255) NOT NULL, 
	rollout_id VARCHAR(255) NOT NULL, 
	flow_run_id VARCHAR(255) NOT NULL, 
	window_start DATETIME NOT NULL, 
	window_end DATETIME NOT NULL, 
	at DATETIME NOT NULL, 
	document TEXT NOT NULL, 
	CONSTRAINT pk_automatic_runs PRIMARY KEY ("key")
);
CREATE TABLE decisions (
	key_id VARCHAR(255) NOT NULL, 
	number INTEGER NOT NULL, 
	previous VARCHAR(255) NOT NULL, 
	kind VARCHAR(255) NOT NULL, 
	subject TEXT NOT NULL, 
	decision VARCHAR(255) NOT NULL, 
	at DATETIME NOT NULL, 
	seal VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_decisions PRIMARY KEY (key_id, number)
);
INSERT INTO "decisions" VALUES('f2192c68',1,'','approval','20260310-010000-aaaaaa','approved','2026-11-27 02:41:54.360147','f2192c68:6a10c9a9380f67bc1c0cdbcf1c52ca8f4e2e3ac41b9d703b5b51682902e8b0bb');
CREATE TABLE fleet_stamp (
	fleet VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_fleet_stamp PRIMARY KEY (fleet)
);
INSERT INTO "fleet_stamp" VALUES('default');
CREATE TABLE fleetpatch_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT fleetpatch_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "fleetpatch_version" VALUES('0001');
CREATE TABLE held_updates (
	name VARCHAR(255) NOT NULL, 
	version VARCHAR(255) NOT NULL, 
	rollout_id VARCHAR(255) NOT NULL, 
	reason TEXT NOT NULL, 
	at DATETIME NOT NULL, 
	released_by TEXT NOT NULL, 
	released_at DATETIME, 
	CONSTRAINT pk_held_updates PRIMARY KEY (name, version)
);
CREATE TABLE hotpatch_enrolments (
	machine VARCHAR(255) NOT NULL, 
	status VARCHAR(255) NOT NULL, 
	at DATETIME NOT NULL, 
	document TEXT NOT NULL, 
	CONSTRAINT pk_hotpatch_enrolments PRIMARY KEY (machine)
);
CREATE TABLE job_outputs (
	run_id VARCHAR(255) NOT NULL, 
	machine VARCHAR(255) NOT NULL, 
	job_id VARCHAR(255) NOT NULL, 
	characters BIGINT NOT NULL, 
	body BLOB NOT NULL, 
	CONSTRAINT pk_job_outputs PRIMARY KEY (run_id, machine, job_id)
);
INSERT INTO "job_outputs" VALUES('20260310-010000-aaaaaa','web-1','20260310-010000-aaaaaa-stage-0-a2666e6f21',0,X'789C030000000001');
INSERT INTO "job_outputs" VALUES('20260310-010000-aaaaaa','web-1','20260310-010000-aaaaaa-install-0-5b6cdc5a00',55,X'789C0B4E2D29C9CC4B57282D50C82F48CD2B2ECE51D030D233D054D0D3D3E30A464826971621CB0000F477102B');
INSERT INTO "job_outputs" VALUES('20260310-010000-aaaaaa','web-2','20260310-010000-aaaaaa-stage-0-1f00c9aec4',0,X'789C030000000001');
INSERT INTO "job_outputs" VALUES('20260310-010000-aaaaaa','web-2','20260310-010000-aaaaaa-install-0-599d1ac385',86,X'789C0B4E2D29C9CC4B57282D50C82F48CD2B2ECE51D030D233D054D0D3D3E30A46482615E567A7E621C9E52666E69500716A916E71725166418915548D95425E3E00B1A41BF2');
INSERT INTO "job_outputs" VALUES('20261127-024154-b0171e','db-1','20261127-024154-b0171e-stage-0-0db5cbe8f2',0,X'789C030000000001');
INSERT INTO "job_outputs" VALUES('20261127-024154-b0171e','db-1','20261127-024154-b0171e-install-0-e70cf3d120',26,X'789C0B4E2D29C9CC4B57282D50C8C94C4A56D030D233D054D0D3D3E3020076330753');
CREATE TABLE journal (
	number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	run_id VARCHAR(255) NOT NULL, 
	machine VARCHAR(255) NOT NULL, 
	step VARCHAR(255) NOT NULL, 
	mark VARCHAR(255) NOT NULL, 
	act VARCHAR(255) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	at DATETIME NOT NULL, 
	document TEXT NOT NULL, 
	digest VARCHAR(255), 
	seal VARCHAR(255)
);
INSERT INTO "journal" VALUES(1,'20260310-010000-aaaaaa','','assess','after','approval','42575878105a02ca04b1e1914973e5b79a06132832f7824627b1a63d7307c23b','2026-03-10 01:00:00.001000','{"run_id":"20260310-010000-aaaaaa","machine":"","step":"assess","mark":"after","act":"approval","key":"42575878105a02ca04b1e1914973e5b79a06132832f7824627b1a63d7307c23b","at":"2026-03-10T01:00:00.001000+00:00","detail":{"shown":{"web-1":{"openssl":"2.0","curl":"2.0"},"web-2":{"openssl":"2.0","broken":"2.0"}}}}','229095037f13af37e00d67cd927e1d6c23a3dd7de7ca368a8dce70805501a01f','4189c07a:dfa8398091504b6e81ffe057a20436645f8262958e19590343f38e1fde26c41b');
INSERT INTO "journal" VALUES(2,'20260310-010000-aaaaaa','web-1','precheck','after','attempt','312d76536cf81d43','2026-03-10 01:01:00.001000','{"run_id":"20260310-010000-aaaaaa","machine":"web-1","step":"precheck","mark":"after","act":"attempt","key":"312d76536cf81d43","at":"2026-03-10T01:01:00.001000+00:00","detail":{}}','07703e5893d13ef4ac4101592475657c874b62e548128c4315df375677f8b56d','4189c07a:6c9dfdf1606843a4c08badef2844ae02656add9032bd86089d60235fce218072');
INSERT INTO "journal" VALUES(3,'20260310-010000-aaaaaa','web-1','precheck','after','step','precheck','2026-03-10 01:01:00.001000','{"run_id":"20260310-010000-aaaaaa","machine":"web-1","step":"precheck","mark":"after","act":"step","key":"precheck","at":"2026-03-10T01:01:00.001000+00:00","detail":{"baseline":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-1-boot-1","uptime_seconds":864060.001,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"listening":["tcp/22","tcp/443"],"listeners":[{"name":"tcp/22"},{"name":"tcp/443"}]},"boot_epoch":1772240400.0},"findings":[{"check":"claim","level":"good","message":"no other run has locked this machine"},{"check":"login","level":"good","message":"logged in; privilege: root"},{"check":"clock","level":"good","message":"the clock agrees with the controller''s"},{"check":"disk","level":"good","message":"there is room enough"},{"check":"packages","level":"good","message":"the package manager is healthy and free"},{"check":"pending-reboot","level":"good","message":"no reboot is pending"}],"steps":[{"step":"assess","started_at":"2026-03-10T01:00:00.001000Z","ended_at":"2026-03-10T01:00:00.001000Z","state":"Succeeded"}]}}','02421b25ae2d3ea6802e501bf6e0f42ad43ccf17cb5e07930e37d2a23c2b87bc','4189c07a:49ba1117e44b5afa7807b626b09476c7084226a5dac92af097b079eaa037be78');
INSERT INTO "journal" VALUES(4,'20260310-010000-aaaaaa','web-1','install','before','stage','20260310-010000-aaaaaa-stage-0-a2666e6f21','2026-03-10 01:01:00.001000','{"run_id":"20260310-010000-aaaaaa","machine":"web-1","step":"install","mark":"before","act":"stage","key":"20260310-010000-aaaaaa-stage-0-a2666e6f21","at":"2026-03-10T01:01:00.001000+00:00","detail":{"transactions":{"0":{"updates":["openssl","curl"],"latest_start":1773117899.961,"predicted":0.04,"stop_at":1773117600.001}}}}','cee4527dd808222afcde99e11eca0f9213be6d015190a7de38b6d1c04487d924','4189c07a:0095ea018bf73903ecd6c6ecfcbcab5fe46bc5a71e44fd74a3ba032aefae8775');
INSERT INTO "journal" VALUES(5,'20260310-010000-aaaaaa','web-1','install','after','stage','20260310-010000-aaaaaa-stage-0-a2666e6f21','2026-03-10 01:01:03.094500','{"run_id":"20260310-010000-aaaaaa","machine":"web-1","step":"install","mark":"after","act":"stage","key":"20260310-010000-aaaaaa-stage-0-a2666e6f21","at":"2026-03-10T01:01:03.094500+00:00","detail":{"phase":"finished","error":""}}','ddc106574d22dc0d9ada21e6f9894c4c08d352c4abf9cd5783645ddb90b862f0','4189c07a:db2cfb64d7b9a08a5c40fa88fa1cf4239fe50dd75e58fdd7dad4a6058f57ace1');
INSERT INTO "journal" VALUES(6,'20260310-010000-aaaaaa','web-1','install','before','install','20260310-010000-aaaaaa-install-0-5b6cdc5a00','2026-03-10 01:01:03.094500','{"run_id":"20260310-010000-aaaaaa","machine":"web-1","step":"install","mark":"before","act":"install","key":"20260310-010000-aaaaaa-install-0-5b6cdc5a00","at":"2026-03-10T01:01:03.094500+00:00","detail":{"transactions":{"0":{"updates":["openssl","curl"],"latest_start":1773117600.001,"predicted":300.0}}}}','3694cd87e3c68b3dce43e8552a063cf843445d903eaab19b73922fcba52ccd2e','4189c07a:e072da7547e559ff9bc2c6b1fd55ea2630439f5707624c3890ff45079aa6b4c9');
INSERT INTO "journal" VALUES(7,'20260310-010000-aaaaaa','web-1','install','after','install','20260310-010000-aaaaaa-install-0-5b6cdc5a00','2026-03-10 01:01:35.062000','{"run_id":"20260310-010000-aaaaaa","machine":"web-1","step":"install","mark":"after","act":"install","key":"20260310-010000-aaaaaa-install-0-5b6cdc5a00","at":"2026-03-10T01:01:35.062000+00:00","detail":{"phase":"finished","error":""}}','f1c98778bb74ec80efc170f28feb33f56be04d4d4ace3f35ecac378e8ab32b9b','4189c07a:322faf0948d1c416983257db95b127a1983a99afa924e783416667f82e63c40b');
INSERT INTO "journal" VALUES(8,'20260310-010000-aaaaaa','web-1','install','after','step','install','2026-03-10 01:01:35.062000','{"run_id":"20260310-010000-aaaaaa","machine":"web-1","step":"install","mark":"after","act":"step","key":"install","at":"2026-03-10T01:01:35.062000+00:00","detail":{"baseline":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-1-boot-1","uptime_seconds":864060.001,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"listening":["tcp/22","tcp/443"],"listeners":[{"name":"tcp/22"},{"name":"tcp/443"}]},"boot_epoch":1772240400.0},"findings":[{"check":"claim","level":"good","message":"no other run has locked this machine"},{"check":"login","level":"good","message":"logged in; privilege: root"},{"check":"clock","level":"good","message":"the clock agrees with the controller''s"},{"check":"disk","level":"good","message":"there is room enough"},{"check":"packages","level":"good","message":"the package manager is healthy and free"},{"check":"pending-reboot","level":"good","message":"no reboot is pending"}],"install":{"results":[{"update":{"id":"openssl","name":"openssl","arch":"all","installed":"1.0","available":"2.0","classification":"Security","origins":["fake"],"size_bytes":20000,"group":"openssl"},"state":"Installed","version_after":"2.0"},{"update":{"id":"curl","name":"curl","arch":"all","installed":"1.0","available":"2.0","classification":"Other","origins":["fake"],"size_bytes":20000,"group":"curl"},"state":"Installed","version_after":"2.0"}],"transactions":[{"number":0,"updates":["openssl","curl"],"started_at":"2026-03-10T01:01:03.094500Z","ended_at":"2026-03-10T01:01:30.094500Z","exit_code":0}],"job_ids":["20260310-010000-aaaaaa-stage-0-a2666e6f21","20260310-010000-aaaaaa-install-0-5b6cdc5a00"],"staged_bytes":40000,"staged_seconds":2.0,"overhead_updates":0.5},"packages_after":{"manager":"fake","updates":[],"reboot":{"answer":"no"}},"steps":[{"step":"assess","started_at":"2026-03-10T01:00:00.001000Z","ended_at":"2026-03-10T01:00:00.001000Z","state":"Succeeded"},{"step":"precheck","started_at":"2026-03-10T01:01:00.001000Z","ended_at":"2026-03-10T01:01:00.001000Z","state":"Succeeded"}]}}','4aa81a939a883e4181522a4928abe92a0666833a4b92a3b9bbc4504e883c55d8','4189c07a:013e7586c5588204f36b3fd914ac97e64d80c0d114202f9bb00cc4ff7ed6ccf7');
INSERT INTO "journal" VALUES(9,'20260310-010000-aaaaaa','web-1','reboot','after','step','reboot','2026-03-10 01:01:35.062000','{"run_id":"20260310-010000-aaaaaa","machine":"web-1","step":"reboot","mark":"after","act":"step","key":"reboot","at":"2026-03-10T01:01:35.062000+00:00","detail":{"baseline":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-1-boot-1","uptime_seconds":864060.001,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"listening":["tcp/22","tcp/443"],"listeners":[{"name":"tcp/22"},{"name":"tcp/443"}]},"boot_epoch":1772240400.0},"findings":[{"check":"claim","level":"good","message":"no other run has locked this machine"},{"check":"login","level":"good","message":"logged in; privilege: root"},{"check":"clock","level":"good","message":"the clock agrees with the controller''s"},{"check":"disk","level":"good","message":"there is room enough"},{"check":"packages","level":"good","message":"the package manager is healthy and free"},{"check":"pending-reboot","level":"good","message":"no reboot is pending"}],"install":{"results":[{"update":{"id":"openssl","name":"openssl","arch":"all","installed":"1.0","available":"2.0","classification":"Security","origins":["fake"],"size_bytes":20000,"group":"openssl"},"state":"Installed","version_after":"2.0"},{"update":{"id":"curl","name":"curl","arch":"all","installed":"1.0","available":"2.0","classification":"Other","origins":["fake"],"size_bytes":20000,"group":"curl"},"state":"Installed","version_after":"2.0"}],"transactions":[{"number":0,"updates":["openssl","curl"],"started_at":"2026-03-10T01:01:03.094500Z","ended_at":"2026-03-10T01:01:30.094500Z","exit_code":0}],"job_ids":["20260310-010000-aaaaaa-stage-0-a2666e6f21","20260310-010000-aaaaaa-install-0-5b6cdc5a00"],"staged_bytes":40000,"staged_seconds":2.0,"overhead_updates":0.5},"packages_after":{"manager":"fake","updates":[],"reboot":{"answer":"no"}},"reboot":{"state":"NotNeeded","reason":"no reboot is asked for"},"steps":[{"step":"assess","started_at":"2026-03-10T01:00:00.001000Z","ended_at":"2026-03-10T01:00:00.001000Z","state":"Succeeded"},{"step":"precheck","started_at":"2026-03-10T01:01:00.001000Z","ended_at":"2026-03-10T01:01:00.001000Z","state":"Succeeded"},{"step":"install","started_at":"2026-03-10T01:01:00.001000Z","ended_at":"2026-03-10T01:01:35.062000Z","state":"Succeeded"}]}}','44e9dffd3842f66fdfe9d7a62138dd4eca6accd86a86fe2479158e05ba535bb9','4189c07a:355f3908d1183ea43b69be102d8aca62c80ffe6d732ff2917781f8dfc2e70465');
INSERT INTO "journal" VALUES(10,'20260310-010000-aaaaaa','web-1','validate','after','step','validate','2026-03-10 01:01:35.062000','{"run_id":"20260310-010000-aaaaaa","machine":"web-1","step":"validate","mark":"after","act":"step","key":"validate","at":"2026-03-10T01:01:35.062000+00:00","detail":{"baseline":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-1-boot-1","uptime_seconds":864060.001,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"listening":["tcp/22","tcp/443"],"listeners":[{"name":"tcp/22"},{"name":"tcp/443"}]},"boot_epoch":1772240400.0},"findings":[{"check":"claim","level":"good","message":"no other run has locked this machine"},{"check":"login","level":"good","message":"logged in; privilege: root"},{"check":"clock","level":"good","message":"the clock agrees with the controller''s"},{"check":"disk","level":"good","message":"there is room enough"},{"check":"packages","level":"good","message":"the package manager is healthy and free"},{"check":"pending-reboot","level":"good","message":"no reboot is pending"}],"install":{"results":[{"update":{"id":"openssl","name":"openssl","arch":"all","installed":"1.0","available":"2.0","classification":"Security","origins":["fake"],"size_bytes":20000,"group":"openssl"},"state":"Installed","version_after":"2.0"},{"update":{"id":"curl","name":"curl","arch":"all","installed":"1.0","available":"2.0","classification":"Other","origins":["fake"],"size_bytes":20000,"group":"curl"},"state":"Installed","version_after":"2.0"}],"transactions":[{"number":0,"updates":["openssl","curl"],"started_at":"2026-03-10T01:01:03.094500Z","ended_at":"2026-03-10T01:01:30.094500Z","exit_code":0}],"job_ids":["20260310-010000-aaaaaa-stage-0-a2666e6f21","20260310-010000-aaaaaa-install-0-5b6cdc5a00"],"staged_bytes":40000,"staged_seconds":2.0,"overhead_updates":0.5},"packages_after":{"manager":"fake","updates":[],"reboot":{"answer":"no"}},"reboot":{"state":"NotNeeded","reason":"no reboot is asked for"},"validation":{"findings":[{"check":"services","level":"good","message":"no service has failed since, and services listen on every port as before"},{"check":"versions","level":"good","message":"2 updates are at their new version"}],"assessment":{"machine":"web-1","at":"2026-03-10T01:01:35.062000Z","seconds":0.0,"facts":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-1-boot-1","uptime_seconds":864095.062,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"listening":["tcp/22","tcp/443"],"listeners":[{"name":"tcp/22"},{"name":"tcp/443"}]},"boot_epoch":1772240400.0},"packages":{"manager":"fake","updates":[],"reboot":{"answer":"no"}},"run_id":"20260310-010000-aaaaaa"}},"steps":[{"step":"assess","started_at":"2026-03-10T01:00:00.001000Z","ended_at":"2026-03-10T01:00:00.001000Z","state":"Succeeded"},{"step":"precheck","started_at":"2026-03-10T01:01:00.001000Z","ended_at":"2026-03-10T01:01:00.001000Z","state":"Succeeded"},{"step":"install","started_at":"2026-03-10T01:01:00.001000Z","ended_at":"2026-03-10T01:01:35.062000Z","state":"Succeeded"},{"step":"reboot","started_at":"2026-03-10T01:01:35.062000Z","ended_at":"2026-03-10T01:01:35.062000Z","state":"Succeeded","message":"NotNeeded: no reboot is asked for"}]}}','fd16af33ed175694160b93cfee4c849a06488507298738e796a07e6b7dcb8a44','4189c07a:875bf403f1dccad04d7a704a422b89e9b2559abe296d244d8750969942f08c6d');
INSERT INTO "journal" VALUES(11,'20260310-010000-aaaaaa','web-2','precheck','after','attempt','d043771312b28ea5','2026-03-10 01:01:35.062000','{"run_id":"20260310-010000-aaaaaa","machine":"web-2","step":"precheck","mark":"after","act":"attempt","key":"d043771312b28ea5","at":"2026-03-10T01:01:35.062000+00:00","detail":{}}','9a4f4a6534408810a8c18274af04cadd9269bd05ca6af6b332d35027465a670e','4189c07a:2abc87275a4b103f3d44e0db293a11a3257074b881f04908f27ca2aa07e5c0a0');
INSERT INTO "journal" VALUES(12,'20260310-010000-aaaaaa','web-2','precheck','after','step','precheck','2026-03-10 01:01:35.062000','{"run_id":"20260310-010000-aaaaaa","machine":"web-2","step":"precheck","mark":"after","act":"step","key":"precheck","at":"2026-03-10T01:01:35.062000+00:00","detail":{"baseline":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-2-boot-1","uptime_seconds":864095.062,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"listening":["tcp/22","tcp/443"],"listeners":[{"name":"tcp/22"},{"name":"tcp/443"}]},"boot_epoch":1772240400.0},"findings":[{"check":"claim","level":"good","message":"no other run has locked this machine"},{"check":"login","level":"good","message":"logged in; privilege: root"},{"check":"clock","level":"good","message":"the clock agrees with the controller''s"},{"check":"disk","level":"good","message":"there is room enough"},{"check":"held","level":"good","message":"on hold, so not updated: held"},{"check":"pending-reboot","level":"good","message":"no reboot is pending"}],"steps":[{"step":"assess","started_at":"2026-03-10T01:00:00.001000Z","ended_at":"2026-03-10T01:00:00.001000Z","state":"Succeeded"}]}}','d868ec64ee094657cd4a944e2d0c11e33b8abdb19ec08f82733df5976080518e','4189c07a:62c0c61102121132ddda644785e3ffa14214c1c163487bba5afa2d9a5d88e3c7');
INSERT INTO "journal" VALUES(13,'20260310-010000-aaaaaa','web-2','install','before','stage','20260310-010000-aaaaaa-stage-0-1f00c9aec4','2026-03-10 01:01:35.062000','{"run_id":"20260310-010000-aaaaaa","machine":"web-2","step":"install","mark":"before","act":"stage","key":"20260310-010000-aaaaaa-stage-0-1f00c9aec4","at":"2026-03-10T01:01:35.062000+00:00","detail":{"transactions":{"0":{"updates":["openssl","broken"],"latest_start":1773117899.961,"predicted":0.04,"stop_at":1773117600.001}}}}','acca29d2d3caf0bccefc7b79aed067a5d243b025f98a9faaeaf036655248eec2','4189c07a:97f97bd12b19439319026e204fc3fb099c532616f671b13976241a83c7ce25fd');
INSERT INTO "journal" VALUES(14,'20260310-010000-aaaaaa','web-2','install','after','stage','20260310-010000-aaaaaa-stage-0-1f00c9aec4','2026-03-10 01:01:38.155500','{"run_id":"20260310-010000-aaaaaa","machine":"web-2","step":"install","mark":"after","act":"stage","key":"20260310-010000-aaaaaa-stage-0-1f00c9aec4","at":"2026-03-10T01:01:38.155500+00:00","detail":{"phase":"finished","error":""}}','75b7972f6a876dfe84d70520c0561228a7f35af59ccd787c13d08c48cd19fed0','4189c07a:6803a6f6d180b483711c37a5f669b926399c8663e7ee65c648d64722af4289e0');
INSERT INTO "journal" VALUES(15,'20260310-010000-aaaaaa','web-2','install','before','install','20260310-010000-aaaaaa-install-0-599d1ac385','2026-03-10 01:01:38.155500','{"run_id":"20260310-010000-aaaaaa","machine":"web-2","step":"install","mark":"before","act":"install","key":"20260310-010000-aaaaaa-install-0-599d1ac385","at":"2026-03-10T01:01:38.155500+00:00","detail":{"transactions":{"0":{"updates":["openssl","broken"],"latest_start":1773117600.001,"predicted":300.0}}}}','2cd1593bff71436c69fdd70c9b4b31e1a41454b04c03cde9d6f47fe10b1a7d9a','4189c07a:9d61e28c4b569188eda7a6bddd6d2e8eb2ad96558bb9442d4e9393b5f8b895f9');
INSERT INTO "journal" VALUES(16,'20260310-010000-aaaaaa','web-2','install','after','install','20260310-010000-aaaaaa-install-0-599d1ac385','2026-03-10 01:02:05.949712','{"run_id":"20260310-010000-aaaaaa","machine":"web-2","step":"install","mark":"after","act":"install","key":"20260310-010000-aaaaaa-install-0-599d1ac385","at":"2026-03-10T01:02:05.949712+00:00","detail":{"phase":"finished","error":""}}','5c17291737e643711be0599794709488bab5f8974b0d447eaafd9de17f8b3511','4189c07a:deffa7cfa13de69616bf982df058614af121a2a472457b74bee18e78ce1fceab');
INSERT INTO "journal" VALUES(17,'20260310-010000-aaaaaa','web-2','install','after','step','install','2026-03-10 01:02:05.949712','{"run_id":"20260310-010000-aaaaaa","machine":"web-2","step":"install","mark":"after","act":"step","key":"install","at":"2026-03-10T01:02:05.949712+00:00","detail":{"baseline":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-2-boot-1","uptime_seconds":864095.062,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"listening":["tcp/22","tcp/443"],"listeners":[{"name":"tcp/22"},{"name":"tcp/443"}]},"boot_epoch":1772240400.0},"findings":[{"check":"claim","level":"good","message":"no other run has locked this machine"},{"check":"login","level":"good","message":"logged in; privilege: root"},{"check":"clock","level":"good","message":"the clock agrees with the controller''s"},{"check":"disk","level":"good","message":"there is room enough"},{"check":"held","level":"good","message":"on hold, so not updated: held"},{"check":"pending-reboot","level":"good","message":"no reboot is pending"}],"install":{"results":[{"update":{"id":"openssl","name":"openssl","arch":"all","installed":"1.0","available":"2.0","classification":"Security","origins":["fake"],"size_bytes":20000,"group":"openssl"},"state":"Installed","version_after":"2.0"},{"update":{"id":"broken","name":"broken","arch":"all","installed":"1.0","available":"2.0","classification":"Other","origins":["fake"],"size_bytes":20000,"group":"broken"},"state":"Failed","reason":"left half-configured or gone: 1.0 was there before and nothing whole is there now: maintainer-script: broken: no (exit code 100)"},{"update":{"id":"held","name":"held","arch":"all","installed":"1.0","available":"2.0","classification":"Other","origins":["fake"],"size_bytes":20000,"group":"held","held":true},"state":"Excluded","reason":"a hold on the machine excludes it"}],"transactions":[{"number":0,"updates":["openssl","broken"],"started_at":"2026-03-10T01:01:38.155500Z","ended_at":"2026-03-10T01:02:01.155500Z","exit_code":100,"detail":"maintainer-script: broken: no"}],"job_ids":["20260310-010000-aaaaaa-stage-0-1f00c9aec4","20260310-010000-aaaaaa-install-0-599d1ac385"],"staged_bytes":40000,"staged_seconds":2.0,"overhead_updates":0.5},"packages_after":{"manager":"fake","updates":[{"id":"held","name":"held","arch":"all","installed":"1.0","available":"2.0","classification":"Other","origins":["fake"],"size_bytes":20000,"group":"held","held":true}],"reboot":{"answer":"no"},"held":["held"],"problems":["broken 2.0 is half-configured"],"repairable":true,"unfinished":[{"id":"broken","name":"broken","arch":"all","version":"2.0","status":"half-configured"}],"interrupted":true},"steps":[{"step":"assess","started_at":"2026-03-10T01:00:00.001000Z","ended_at":"2026-03-10T01:00:00.001000Z","state":"Succeeded"},{"step":"precheck","started_at":"2026-03-10T01:01:35.062000Z","ended_at":"2026-03-10T01:01:35.062000Z","state":"Succeeded"}]}}','fe8e67101233653b32a7b9da204a0a3b00f01a3d3d9abb7ed74832d23ac1d338','4189c07a:be629f48c105711f4de4267ad92033f45108eb46a6fc676ba2f8ab75f9e0f3b4');
INSERT INTO "journal" VALUES(18,'20260310-010000-aaaaaa','web-2','reboot','after','step','reboot','2026-03-10 01:02:05.949712','{"run_id":"20260310-010000-aaaaaa","machine":"web-2","step":"reboot","mark":"after","act":"step","key":"reboot","at":"2026-03-10T01:02:05.949712+00:00","detail":{"baseline":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-2-boot-1","uptime_seconds":864095.062,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"listening":["tcp/22","tcp/443"],"listeners":[{"name":"tcp/22"},{"name":"tcp/443"}]},"boot_epoch":1772240400.0},"findings":[{"check":"claim","level":"good","message":"no other run has locked this machine"},{"check":"login","level":"good","message":"logged in; privilege: root"},{"check":"clock","level":"good","message":"the clock agrees with the controller''s"},{"check":"disk","level":"good","message":"there is room enough"},{"check":"held","level":"good","message":"on hold, so not updated: held"},{"check":"pending-reboot","level":"good","message":"no reboot is pending"}],"install":{"results":[{"update":{"id":"openssl","name":"openssl","arch":"all","installed":"1.0","available":"2.0","classification":"Security","origins":["fake"],"size_bytes":20000,"group":"openssl"},"state":"Installed","version_after":"2.0"},{"update":{"id":"broken","name":"broken","arch":"all","installed":"1.0","available":"2.0","classification":"Other","origins":["fake"],"size_bytes":20000,"group":"broken"},"state":"Failed","reason":"left half-configured or gone: 1.0 was there before and nothing whole is there now: maintainer-script: broken: no (exit code 100)"},{"update":{"id":"held","name":"held","arch":"all","installed":"1.0","available":"2.0","classification":"Other","origins":["fake"],"size_bytes":20000,"group":"held","held":true},"state":"Excluded","reason":"a hold on the machine excludes it"}],"transactions":[{"number":0,"updates":["openssl","broken"],"started_at":"2026-03-10T01:01:38.155500Z","ended_at":"2026-03-10T01:02:01.155500Z","exit_code":100,"detail":"maintainer-script: broken: no"}],"job_ids":["20260310-010000-aaaaaa-stage-0-1f00c9aec4","20260310-010000-aaaaaa-install-0-599d1ac385"],"staged_bytes":40000,"staged_seconds":2.0,"overhead_updates":0.5},"packages_after":{"manager":"fake","updates":[{"id":"held","name":"held","arch":"all","installed":"1.0","available":"2.0","classification":"Other","origins":["fake"],"size_bytes":20000,"group":"held","held":true}],"reboot":{"answer":"no"},"held":["held"],"problems":["broken 2.0 is half-configured"],"repairable":true,"unfinished":[{"id":"broken","name":"broken","arch":"all","version":"2.0","status":"half-configured"}],"interrupted":true},"reboot":{"state":"NotNeeded","reason":"no reboot is asked for"},"steps":[{"step":"assess","started_at":"2026-03-10T01:00:00.001000Z","ended_at":"2026-03-10T01:00:00.001000Z","state":"Succeeded"},{"step":"precheck","started_at":"2026-03-10T01:01:35.062000Z","ended_at":"2026-03-10T01:01:35.062000Z","state":"Succeeded"},{"step":"install","started_at":"2026-03-10T01:01:35.062000Z","ended_at":"2026-03-10T01:02:05.949712Z","state":"Failed","message":"failed: broken"}]}}','5bfba4ac1da358c00aefaa001f300c985542d00e972dd2005f0c9662e5ddc73a','4189c07a:a645c29959fa31c605f42e4d4d88725ba8e134c2c8ddabececdd28a08ad4dbac');
INSERT INTO "journal" VALUES(19,'20260310-010000-aaaaaa','web-2','validate','after','step','validate','2026-03-10 01:02:05.949712','{"run_id":"20260310-010000-aaaaaa","machine":"web-2","step":"validate","mark":"after","act":"step","key":"validate","at":"2026-03-10T01:02:05.949712+00:00","detail":{"baseline":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-2-boot-1","uptime_seconds":864095.062,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"listening":["tcp/22","tcp/443"],"listeners":[{"name":"tcp/22"},{"name":"tcp/443"}]},"boot_epoch":1772240400.0},"findings":[{"check":"claim","level":"good","message":"no other run has locked this machine"},{"check":"login","level":"good","message":"logged in; privilege: root"},{"check":"clock","level":"good","message":"the clock agrees with the controller''s"},{"check":"disk","level":"good","message":"there is room enough"},{"check":"held","level":"good","message":"on hold, so not updated: held"},{"check":"pending-reboot","level":"good","message":"no reboot is pending"}],"install":{"results":[{"update":{"id":"openssl","name":"openssl","arch":"all","installed":"1.0","available":"2.0","classification":"Security","origins":["fake"],"size_bytes":20000,"group":"openssl"},"state":"Installed","version_after":"2.0"},{"update":{"id":"broken","name":"broken","arch":"all","installed":"1.0","available":"2.0","classification":"Other","origins":["fake"],"size_bytes":20000,"group":"broken"},"state":"Failed","reason":"left half-configured or gone: 1.0 was there before and nothing whole is there now: maintainer-script: broken: no (exit code 100)"},{"update":{"id":"held","name":"held","arch":"all","installed":"1.0","available":"2.0","classification":"Other","origins":["fake"],"size_bytes":20000,"group":"held","held":true},"state":"Excluded","reason":"a hold on the machine excludes it"}],"transactions":[{"number":0,"updates":["openssl","broken"],"started_at":"2026-03-10T01:01:38.155500Z","ended_at":"2026-03-10T01:02:01.155500Z","exit_code":100,"detail":"maintainer-script: broken: no"}],"job_ids":["20260310-010000-aaaaaa-stage-0-1f00c9aec4","20260310-010000-aaaaaa-install-0-599d1ac385"],"staged_bytes":40000,"staged_seconds":2.0,"overhead_updates":0.5},"packages_after":{"manager":"fake","updates":[{"id":"held","name":"held","arch":"all","installed":"1.0","available":"2.0","classification":"Other","origins":["fake"],"size_bytes":20000,"group":"held","held":true}],"reboot":{"answer":"no"},"held":["held"],"problems":["broken 2.0 is half-configured"],"repairable":true,"unfinished":[{"id":"broken","name":"broken","arch":"all","version":"2.0","status":"half-configured"}],"interrupted":true},"reboot":{"state":"NotNeeded","reason":"no reboot is asked for"},"validation":{"findings":[{"check":"services","level":"good","message":"no service has failed since, and services listen on every port as before"},{"check":"versions","level":"good","message":"1 update is at its new version"},{"check":"packages","level":"block","message":"broken 2.0 is half-configured","remedy":"Run again with --repair (repair: true): it finishes what was interrupted. Or finish it on the machine."}],"assessment":{"machine":"web-2","at":"2026-03-10T01:02:05.949712Z","seconds":0.0,"facts":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-2-boot-1","uptime_seconds":864125.949712,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"listening":["tcp/22","tcp/443"],"listeners":[{"name":"tcp/22"},{"name":"tcp/443"}]},"boot_epoch":1772240400.0},"packages":{"manager":"fake","updates":[{"id":"held","name":"held","arch":"all","installed":"1.0","available":"2.0","classification":"Other","origins":["fake"],"size_bytes":20000,"group":"held","held":true}],"reboot":{"answer":"no"},"held":["held"],"problems":["broken 2.0 is half-configured"],"repairable":true,"unfinished":[{"id":"broken","name":"broken","arch":"all","version":"2.0","status":"half-configured"}],"interrupted":true},"run_id":"20260310-010000-aaaaaa"}},"steps":[{"step":"assess","started_at":"2026-03-10T01:00:00.001000Z","ended_at":"2026-03-10T01:00:00.001000Z","state":"Succeeded"},{"step":"precheck","started_at":"2026-03-10T01:01:35.062000Z","ended_at":"2026-03-10T01:01:35.062000Z","state":"Succeeded"},{"step":"install","started_at":"2026-03-10T01:01:35.062000Z","ended_at":"2026-03-10T01:02:05.949712Z","state":"Failed","message":"failed: broken"},{"step":"reboot","started_at":"2026-03-10T01:02:05.949712Z","ended_at":"2026-03-10T01:02:05.949712Z","state":"Succeeded","message":"NotNeeded: no reboot is asked for"}]}}','eb9ddcaa63369f3049f3f882b37424a2ff333305a4ebdafcf695a6e8cba4c4f1','4189c07a:2d82c955c706b92f161845ee1e12f7b1dbaf1a29eed2709bc8c3ffa03f5fc70e');
INSERT INTO "journal" VALUES(20,'20261127-024154-b0171e','db-1','precheck','after','attempt','839de86948b3628a','2026-03-10 02:02:05.950712','{"run_id":"20261127-024154-b0171e","machine":"db-1","step":"precheck","mark":"after","act":"attempt","key":"839de86948b3628a","at":"2026-03-10T02:02:05.950712+00:00","detail":{}}','8df8290b07a80068f2861619c39467ce98ffa6a06bd8a78a7a312888fab54a8b','4189c07a:323a7bbf3da94664867986b8ea2c7c7239587ef1bccb89ea1beb1840ae261eff');
INSERT INTO "journal" VALUES(21,'20261127-024154-b0171e','db-1','precheck','after','step','precheck','2026-03-10 02:02:05.950712','{"run_id":"20261127-024154-b0171e","machine":"db-1","step":"precheck","mark":"after","act":"step","key":"precheck","at":"2026-03-10T02:02:05.950712+00:00","detail":{"baseline":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"db-1-boot-1","uptime_seconds":864000.001,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"listening":["tcp/22","tcp/443"],"listeners":[{"name":"tcp/22"},{"name":"tcp/443"}]},"boot_epoch":1772244125.949712},"findings":[{"check":"claim","level":"good","message":"no other run has locked this machine"},{"check":"login","level":"good","message":"logged in; privilege: root"},{"check":"clock","level":"good","message":"the clock agrees with the controller''s"},{"check":"disk","level":"good","message":"there is room enough"},{"check":"packages","level":"good","message":"the package manager is healthy and free"},{"check":"pending-reboot","level":"good","message":"no reboot is pending"}],"steps":[{"step":"assess","started_at":"2026-03-10T02:02:05.950712Z","ended_at":"2026-03-10T02:02:05.950712Z","state":"Succeeded"}]}}','e83b7cf0e3cdd5a028253899ec1af2cbdd04514381c2057896461ac9d2862574','4189c07a:92dee510574f10ca767daccdf388b15862429bf744cbb3bef168b5808bd35196');
INSERT INTO "journal" VALUES(22,'20261127-024154-b0171e','db-1','install','before','stage','20261127-024154-b0171e-stage-0-0db5cbe8f2','2026-03-10 02:02:05.950712','{"run_id":"20261127-024154-b0171e","machine":"db-1","step":"install","mark":"before","act":"stage","key":"20261127-024154-b0171e-stage-0-0db5cbe8f2","at":"2026-03-10T02:02:05.950712+00:00","detail":{"transactions":{"0":{"updates":["libc"],"latest_start":1773114425.930712,"predicted":0.02,"stop_at":1773114245.950712}}}}','d4c8d54634ceb51b5cc66cda4bc82db05dddd3a2ba823e312767dedb2a95241a','4189c07a:58dedc70a0fea09fd3b03ee4355720591a8f267fd6a9fd056b9e2af317d0ee90');
INSERT INTO "journal" VALUES(23,'20261127-024154-b0171e','db-1','install','after','stage','20261127-024154-b0171e-stage-0-0db5cbe8f2','2026-03-10 02:02:09.044212','{"run_id":"20261127-024154-b0171e","machine":"db-1","step":"install","mark":"after","act":"stage","key":"20261127-024154-b0171e-stage-0-0db5cbe8f2","at":"2026-03-10T02:02:09.044212+00:00","detail":{"phase":"finished","error":""}}','718e628f7f41aab8c03a18133933c6b71537c70405a03c9ed9409f169e433f33','4189c07a:b2881e00c4271ce2cefceb4cafc7af538ecda7b7daead7a5595dd1e0e050a9fe');
INSERT INTO "journal" VALUES(24,'20261127-024154-b0171e','db-1','install','before','install','20261127-024154-b0171e-install-0-e70cf3d120','2026-03-10 02:02:09.044212','{"run_id":"20261127-024154-b0171e","machine":"db-1","step":"install","mark":"before","act":"install","key":"20261127-024154-b0171e-install-0-e70cf3d120","at":"2026-03-10T02:02:09.044212+00:00","detail":{"transactions":{"0":{"updates":["libc"],"latest_start":1773114245.950712,"predicted":180.0}}}}','4dee822c15e0855d44c36054c356d945ff9393bf3852309263bf5a9f9121ea31','4189c07a:221f7fc0e3f51a2db71870de9f671811e5e536776f2523a50d2c83fed5f5a1a9');
INSERT INTO "journal" VALUES(25,'20261127-024154-b0171e','db-1','install','after','install','20261127-024154-b0171e-install-0-e70cf3d120','2026-03-10 02:02:37.246887','{"run_id":"20261127-024154-b0171e","machine":"db-1","step":"install","mark":"after","act":"install","key":"20261127-024154-b0171e-install-0-e70cf3d120","at":"2026-03-10T02:02:37.246887+00:00","detail":{"phase":"finished","error":""}}','84f7cbdc603f39434e497811c8f05f7e670f75ac0fd620191ee8bfbaf0f7ab90','4189c07a:1a0634b0a94af2d752f25fabb7b04f21b6cf8cc4f1e6e1a9550cd818a7fb0df7');
CREATE TABLE leases (
	run_id VARCHAR(255) NOT NULL, 
	holder_id VARCHAR(255) NOT NULL, 
	host TEXT NOT NULL, 
	pid BIGINT NOT NULL, 
	username TEXT NOT NULL, 
	until DATETIME NOT NULL, 
	given_back BOOLEAN NOT NULL, 
	CONSTRAINT pk_leases PRIMARY KEY (run_id)
);
INSERT INTO "leases" VALUES('20261127-024154-b0171e','dbf943ecc6efb687','vm',27853,'anna','2026-11-27 02:41:54.590569',1);
CREATE TABLE login_links (
	digest VARCHAR(255) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	roles TEXT NOT NULL, 
	expires_at DATETIME NOT NULL, 
	seal VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_login_links PRIMARY KEY (digest)
);
CREATE TABLE machine_days (
	day DATE NOT NULL, 
	machine VARCHAR(255) NOT NULL, 
	compliance VARCHAR(255) NOT NULL, 
	critical INTEGER NOT NULL, 
	security INTEGER NOT NULL, 
	other INTEGER NOT NULL, 
	reboot VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_machine_days PRIMARY KEY (day, machine)
)
 WITHOUT ROWID

;
INSERT INTO "machine_days" VALUES('2026-03-10','db-1','NonCompliant',0,1,0,'no');
INSERT INTO "machine_days" VALUES('2026-03-10','db-2','NonCompliant',0,1,0,'no');
INSERT INTO "machine_days" VALUES('2026-03-10','web-1','Compliant',0,0,0,'no');
INSERT INTO "machine_days" VALUES('2026-03-10','web-2','NonCompliant',0,0,1,'no');
CREATE TABLE machine_last_runs (
	machine VARCHAR(255) NOT NULL, 
	run_id VARCHAR(255) NOT NULL, 
	kind VARCHAR(255) NOT NULL, 
	state VARCHAR(255) NOT NULL, 
	at DATETIME NOT NULL, 
	CONSTRAINT pk_machine_last_runs PRIMARY KEY (machine)
)
 WITHOUT ROWID

;
INSERT INTO "machine_last_runs" VALUES('web-1','20260310-010000-aaaaaa','patch','Succeeded','2026-03-10 01:00:00.001000');
INSERT INTO "machine_last_runs" VALUES('web-2','20260310-010000-aaaaaa','patch','Failed','2026-03-10 01:00:00.001000');
CREATE TABLE machine_plans (
	run_id VARCHAR(255) NOT NULL, 
	machine VARCHAR(255) NOT NULL, 
	document TEXT NOT NULL, 
	updates BLOB NOT NULL, 
	seal VARCHAR(255), 
	CONSTRAINT pk_machine_plans PRIMARY KEY (run_id, machine)
);
INSERT INTO "machine_plans" VALUES('20260310-010000-aaaaaa','web-1','{"machine":"web-1","chosen":[],"skipped":[],"prediction":{"stage":0.04,"install":300.0,"reboot":600.0,"validate":60.0,"basis":"defaults"},"reboot_expected":"unknown","notes":[],"download_bytes":40000,"assessed_at":"2026-03-10T01:00:00.001000+00:00","refusals":[]}',X'789CED52BB6EC3300CFC17CD469166CC4F74E81804022D333661465245D9401AF4DF4B5976DACCCD584D7C1EEF48DD8C1B82A03787E3CD50670E2644F4226C1AE3E1820F01486ED0007071C84B560B4BCFEBCBAEA4672086964BD37E893806113A93834C416798777453A27CD59CE08C8B7930EA8544BD222A0D738611CD499B6754DF4FCC5A4C9F68DB6B2E91FD4E5F63FA14A6F8406F4056326760C1C6B41CDCB890D34CC28F89128A4DD8869037D4B1ADE938B54C3294EA9A4818195C19763C15A695B455C2527568D38CBE0BC9BA017C8F35546DB175C64A04BA9944E56D6853EC4075D80B78E831DDEB32655E71422CEB02AE9E47ECC43239F40EEFE555890A02D918F5A49CECB29402C21DA68DF23ABB4061A78BFC415E5CBB1CAA32FC6AD68FA0A27FFD82D5FBFB1778CB83AA7EDEFD5762FFC77FCAF18BE291622CEB50F71BCEE65F86','4189c07a:1cfc2ee7f68fd51442a8e65d8f9d93d19ad26ebfc321efdc3dc3503a3905b063');
INSERT INTO "machine_plans" VALUES('20260310-010000-aaaaaa','web-2','{"machine":"web-2","chosen":[],"skipped":[],"prediction":{"stage":0.04,"install":300.0,"reboot":600.0,"validate":60.0,"basis":"defaults"},"reboot_expected":"unknown","notes":[],"download_bytes":40000,"assessed_at":"2026-03-10T01:00:00.001000+00:00","refusals":[]}',X'789CED54BB6EC3300CFC15437350A41DBD77EED03108045A666CC28CE44AB2D134C8BF97921C179993A1433C890F1D8FA783CFCAF42EA055F5EEACA855B57223DA10586D948523DE24C09B5E12C029201BA29C30DD797DD9A6F20CC4D070BAF496338621043A9081484E66A84F3493A778925AC019F3B15612394F9D200A0D758001D55E2ECF28B19D98A5997E5037A798326F5BF936AAF36E1A6FE8F5C842E6001C70A31A7666C8E4A4E2F16B228F417B6C9C8B57D4A129E5716A98429FBA4BC1E3C860D2B0DD3E312DA4B5100E650FB934A36D9DD7A607DB61499573D065C64204DA9982AC77459BC616640F7D040B1DFAB52F52E405C78D492EE01259C436682683D6E0DA5E369185205C1975249C74162581708BFE4A79999DA0B01521FF9073A8F343158697CD6284C6BB418CB1FA608DEFB7C147EC65F3C77960A5F6B4C0432C90361E681C931CF25F287C55BD18238BBCDA6289FE9F291662C512D14F4F47DCF35350F2A2C903EAFDDBF0241D59C1650E54BD2057CE56F286D5114C4F162B2C9DA1A298A5C943351C625A30697AD95F7E0141BA2B62','4189c07a:a56d4affbee2263b631c55eb31ef51327d7a1a231251c556deaad62e4f48c076');
INSERT INTO "machine_plans" VALUES('20261127-024154-b0171e','db-1','{"machine":"db-1","chosen":[],"skipped":[],"prediction":{"stage":0.02,"install":180.0,"reboot":600.0,"validate":60.0,"basis":"defaults"},"reboot_expected":"unknown","notes":[],"download_bytes":20000,"assessed_at":"2026-03-10T02:02:05.950712+00:00","refusals":[]}',X'789C4591418EC3300845EFC2BA1A75BAEC3566595516B64982426D8FED446AABB9FBE0B869B3E203FE3CC813DC140B05385F9EC01ECE206C1D1C20E08D3E0AB39B54A1880A0EA56A44ADFBFBEBD8CA2BB2A095F6E2B4659C60293CB0C3CA51DDE187DC92B9DEB55668A52D3C83AA987954470580016782AB3E5E49755844B4991F64ECBDB6CCE9A8DF01C61C97F4619B489464402974002BD1CD1B995632FD2E9CA9984C36C6BA5BCEB697D36285CBD4BA7B215312746DD2E5DA303BB151DAD297D0472B051FB3711386917AAAC7C5F4192F10F42B17DD6D775B92475DC2DC30E048F9DD57B9CACB27A6762B94AE02912F46D85170F46EEF9BE8425876A29195C96C176926E229EFC8AFD9CD8ABC5EF1E3BC49B3FDA54EF8D7369E39A5760E95FFEB31B288','4189c07a:d77a566aab86c36873d4b9061fef50909f5f9f8c5fb4b975cdbf20de1b699a91');
INSERT INTO "machine_plans" VALUES('20261127-024154-b0171e','db-2','{"machine":"db-2","chosen":[],"skipped":[],"prediction":{"stage":0.02,"install":180.0,"reboot":600.0,"validate":60.0,"basis":"defaults"},"reboot_expected":"unknown","notes":[],"download_bytes":20000,"assessed_at":"2026-03-10T02:02:05.950712+00:00","refusals":[]}',X'789C4591418EC3300845EFC2BA1A75BAEC3566595516B64982426D8FED446AABB9FBE0B869B3E203FE3CC813DC140B05385F9EC01ECE206C1D1C20E08D3E0AB39B54A1880A0EA56A44ADFBFBEBD8CA2BB2A095F6E2B4659C60293CB0C3CA51DDE187DC92B9DEB55668A52D3C83AA987954470580016782AB3E5E49755844B4991F64ECBDB6CCE9A8DF01C61C97F4619B489464402974002BD1CD1B995632FD2E9CA9984C36C6BA5BCEB697D36285CBD4BA7B215312746DD2E5DA303BB151DAD297D0472B051FB3711386917AAAC7C5F4192F10F42B17DD6D775B92475DC2DC30E048F9DD57B9CACB27A6762B94AE02912F46D85170F46EEF9BE8425876A29195C96C176926E229EFC8AFD9CD8ABC5EF1E3BC49B3FDA54EF8D7369E39A5760E95FFEB31B288','4189c07a:20d5e124996614b4c9136ff29a8eff71b88ef3c451e27c948747aae7458eb023');
CREATE TABLE machine_states (
	machine VARCHAR(255) NOT NULL, 
	run_id VARCHAR(255) NOT NULL, 
	at DATETIME NOT NULL, 
	error_kind VARCHAR(255) NOT NULL, 
	error_message TEXT NOT NULL, 
	answered_at DATETIME, 
	compliance VARCHAR(255) NOT NULL, 
	critical INTEGER NOT NULL, 
	security INTEGER NOT NULL, 
	other INTEGER NOT NULL, 
	withheld INTEGER NOT NULL, 
	reboot VARCHAR(255) NOT NULL, 
	reboot_since DATETIME, 
	services_to_restart INTEGER NOT NULL, 
	problems INTEGER NOT NULL, 
	findings INTEGER NOT NULL, 
	os_id VARCHAR(255) NOT NULL, 
	os_version VARCHAR(255) NOT NULL, 
	os_name VARCHAR(255) NOT NULL, 
	manager VARCHAR(255) NOT NULL, 
	details TEXT, 
	CONSTRAINT pk_machine_states PRIMARY KEY (machine)
)
 WITHOUT ROWID

;
INSERT INTO "machine_states" VALUES('db-1','20261127-024154-b0171e','2026-03-10 02:02:05.950712','','','2026-03-10 02:02:05.950712','NonCompliant',0,1,0,0,'no',NULL,0,0,0,'fake','1','Fake 1','fake','{"kernel":"6.1","service_names":[],"reboot_mitigated_by":null,"live_patches":null,"hotpatch":"","level":"good","reason":""}');
INSERT INTO "machine_states" VALUES('db-2','20261127-024154-b0171e','2026-03-10 02:02:05.950712','','','2026-03-10 02:02:05.950712','NonCompliant',0,1,0,0,'no',NULL,0,0,0,'fake','1','Fake 1','fake','{"kernel":"6.1","service_names":[],"reboot_mitigated_by":null,"live_patches":null,"hotpatch":"","level":"good","reason":""}');
INSERT INTO "machine_states" VALUES('web-1','20260310-010000-aaaaaa','2026-03-10 01:01:35.062000','','','2026-03-10 01:01:35.062000','Compliant',0,0,0,0,'no',NULL,0,0,0,'fake','1','Fake 1','fake','{"kernel":"6.1","service_names":[],"reboot_mitigated_by":null,"live_patches":null,"hotpatch":"","level":"good","reason":""}');
INSERT INTO "machine_states" VALUES('web-2','20260310-010000-aaaaaa','2026-03-10 01:02:05.949712','','','2026-03-10 01:02:05.949712','NonCompliant',0,0,1,1,'no',NULL,0,1,0,'fake','1','Fake 1','fake','{"kernel":"6.1","service_names":[],"reboot_mitigated_by":null,"live_patches":null,"hotpatch":"","level":"block","reason":"the package manager is not healthy: broken 2.0 is half-configured"}');
CREATE TABLE measures (
	run_id VARCHAR(255) NOT NULL, 
	machine VARCHAR(255) NOT NULL, 
	measure VARCHAR(255) NOT NULL, 
	at DATETIME NOT NULL, 
	value FLOAT NOT NULL, 
	CONSTRAINT pk_measures PRIMARY KEY (run_id, machine, measure)
);
INSERT INTO "measures" VALUES('20260310-010000-aaaaaa','web-1','transaction_seconds','2026-03-10 01:01:35.062000',5.4);
INSERT INTO "measures" VALUES('20260310-010000-aaaaaa','web-1','install_seconds_per_update','2026-03-10 01:01:35.062000',10.8);
CREATE TABLE missing_fixes (
	machine VARCHAR(255) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	since DATETIME NOT NULL, 
	CONSTRAINT pk_missing_fixes PRIMARY KEY (machine, name)
);
CREATE TABLE occurrences (
	configuration VARCHAR(255) NOT NULL, 
	starts_at DATETIME NOT NULL, 
	run_id VARCHAR(255) NOT NULL, 
	what VARCHAR(255) NOT NULL, 
	reason TEXT NOT NULL, 
	at DATETIME NOT NULL, 
	CONSTRAINT pk_occurrences PRIMARY KEY (configuration, starts_at)
);
CREATE TABLE opt_outs (
	scope TEXT NOT NULL, 
	digest VARCHAR(255) NOT NULL, 
	who TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	at DATETIME NOT NULL, 
	until DATETIME, 
	CONSTRAINT pk_opt_outs PRIMARY KEY (digest)
);
CREATE TABLE outcomes (
	number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	run_id VARCHAR(255) NOT NULL, 
	machine VARCHAR(255) NOT NULL, 
	state VARCHAR(255) NOT NULL, 
	reason TEXT NOT NULL, 
	reboot VARCHAR(255) NOT NULL, 
	wave INTEGER, 
	started_at DATETIME, 
	ended_at DATETIME, 
	window_exceeded_seconds FLOAT NOT NULL, 
	updates_installed INTEGER NOT NULL, 
	updates_failed INTEGER NOT NULL, 
	error_kind VARCHAR(255) NOT NULL, 
	document TEXT NOT NULL, 
	counts TEXT, 
	updates BLOB, 
	CONSTRAINT uq_outcomes_run_id_machine UNIQUE (run_id, machine)
);
INSERT INTO "outcomes" VALUES(1,'20260310-010000-aaaaaa','web-1','Succeeded','2 updates installed','NotNeeded',1,'2026-03-10 01:00:00.001000','2026-03-10 01:01:35.062000',0.0,2,0,'','{"run_id":"20260310-010000-aaaaaa","machine":"web-1","state":"Succeeded","reason":"2 updates installed","updates":[],"reboot":"NotNeeded","wave":1,"started_at":"2026-03-10T01:00:00.001000+00:00","ended_at":"2026-03-10T01:01:35.062000+00:00","window_exceeded_seconds":0.0,"steps":[{"step":"assess","started_at":"2026-03-10T01:00:00.001000+00:00","ended_at":"2026-03-10T01:00:00.001000+00:00","state":"Succeeded","message":""},{"step":"precheck","started_at":"2026-03-10T01:01:00.001000+00:00","ended_at":"2026-03-10T01:01:00.001000+00:00","state":"Succeeded","message":""},{"step":"install","started_at":"2026-03-10T01:01:00.001000+00:00","ended_at":"2026-03-10T01:01:35.062000+00:00","state":"Succeeded","message":""},{"step":"reboot","started_at":"2026-03-10T01:01:35.062000+00:00","ended_at":"2026-03-10T01:01:35.062000+00:00","state":"Succeeded","message":"NotNeeded: no reboot is asked for"},{"step":"validate","started_at":"2026-03-10T01:01:35.062000+00:00","ended_at":"2026-03-10T01:01:35.062000+00:00","state":"Succeeded","message":""}],"findings":[{"check":"claim","level":"good","message":"no other run has locked this machine","remedy":""},{"check":"login","level":"good","message":"logged in; privilege: root","remedy":""},{"check":"clock","level":"good","message":"the clock agrees with the controller''s","remedy":""},{"check":"disk","level":"good","message":"there is room enough","remedy":""},{"check":"packages","level":"good","message":"the package manager is healthy and free","remedy":""},{"check":"pending-reboot","level":"good","message":"no reboot is pending","remedy":""},{"check":"services","level":"good","message":"no service has failed since, and services listen on every port as before","remedy":""},{"check":"versions","level":"good","message":"2 updates are at their new version","remedy":""}],"prediction":{"stage":0.04,"install":300.0,"reboot":600.0,"validate":60.0,"basis":"defaults"},"install":{"results":[],"transactions":[{"number":0,"updates":["openssl","curl"],"started_at":"2026-03-10T01:01:03.094500+00:00","ended_at":"2026-03-10T01:01:30.094500+00:00","exit_code":0,"detail":"","undo":""}],"job_ids":["20260310-010000-aaaaaa-stage-0-a2666e6f21","20260310-010000-aaaaaa-install-0-5b6cdc5a00"],"kept_configuration_files":[],"unasked":[],"overrun_seconds":0.0,"error":null,"staged_bytes":40000,"staged_seconds":2.0,"overhead_updates":0.5},"reboot_result":{"state":"NotNeeded","reason":"no reboot is asked for","boot_id_before":"","boot_id_after":"","down_seconds":null,"up_seconds":null,"count":0,"mitigated_by":""},"facts":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-1-boot-1","uptime_seconds":864095.062,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"failed":[],"listening":["tcp/22","tcp/443"],"known":true,"listeners":[{"name":"tcp/22","program":"","unit":""},{"name":"tcp/443","program":"","unit":""}],"running":[],"ended":[],"late":[],"late_start_seconds":0.0,"active_units":[]},"boot_epoch":1772240400.0,"findings":[],"machine_id":"","instance_id":"","boot_work":"","clock_error_seconds":0.0,"support_end":""},"error":null,"services_to_restart":[],"kernel_before":"6.1"}','{"states":{"Installed":2},"urgent":0,"unclassified":0}',X'789CED52BB6EC3300CFC17CD469176F41F74EAD0B108045AA66D218CE48AB28134C8BF977A3869D0B105BA54139FC7237567B5CC3D4464D5BE9DABADDAB3B2BD6A959FD131936A948323DE052098490240C9B18EA358987A1E1F7629BD8225E828353DE5882160B6833510AD77127E45B3041B4F92635C319BAD12CF073B0AA21052031C50EDA5794D04DD4224C5F6037577CA949F76F21A3506BFCC77F426242133003136AA236F0E999C6402BE2F3620EB809DF771433D74253D2F1D599E527549049C094CBECF3E312DA4B510E6B28734ADE87A1FB499C08D5842C5665D665422D0AF9665BD0DAD9E5E1FC1C188E15A176DA48AE3E7742EA0E239C49E355983CEE0B5BC6C220B016F8C462B9C743E4A02A11EC346B9CE4E50D8CB216FC8D9D5F9A30AC38B2C1CB320D4F3F58BD3BCDBA00AAA61886981FCD997E69B92E46A5F6454BD9F6BE8254E32F5F7045489FDABE72FD5B3BF1343BAE3E51319DA8BF5');
INSERT INTO "outcomes" VALUES(2,'20260310-010000-aaaaaa','web-2','Failed','1 update failed: broken (left half-configured or gone: 1.0 was there before and nothing whole is there now: maintainer-script: broken: no (exit code 100)); validation packages: broken 2.0 is half-configured','NotNeeded',2,'2026-03-10 01:00:00.001000','2026-03-10 01:02:05.949712',0.0,1,1,'','{"run_id":"20260310-010000-aaaaaa","machine":"web-2","state":"Failed","reason":"1 update failed: broken (left half-configured or gone: 1.0 was there before and nothing whole is there now: maintainer-script: broken: no (exit code 100)); validation packages: broken 2.0 is half-configured","updates":[],"reboot":"NotNeeded","wave":2,"started_at":"2026-03-10T01:00:00.001000+00:00","ended_at":"2026-03-10T01:02:05.949712+00:00","window_exceeded_seconds":0.0,"steps":[{"step":"assess","started_at":"2026-03-10T01:00:00.001000+00:00","ended_at":"2026-03-10T01:00:00.001000+00:00","state":"Succeeded","message":""},{"step":"precheck","started_at":"2026-03-10T01:01:35.062000+00:00","ended_at":"2026-03-10T01:01:35.062000+00:00","state":"Succeeded","message":""},{"step":"install","started_at":"2026-03-10T01:01:35.062000+00:00","ended_at":"2026-03-10T01:02:05.949712+00:00","state":"Failed","message":"failed: broken"},{"step":"reboot","started_at":"2026-03-10T01:02:05.949712+00:00","ended_at":"2026-03-10T01:02:05.949712+00:00","state":"Succeeded","message":"NotNeeded: no reboot is asked for"},{"step":"validate","started_at":"2026-03-10T01:02:05.949712+00:00","ended_at":"2026-03-10T01:02:05.949712+00:00","state":"Failed","message":"packages: broken 2.0 is half-configured"}],"findings":[{"check":"claim","level":"good","message":"no other run has locked this machine","remedy":""},{"check":"login","level":"good","message":"logged in; privilege: root","remedy":""},{"check":"clock","level":"good","message":"the clock agrees with the controller''s","remedy":""},{"check":"disk","level":"good","message":"there is room enough","remedy":""},{"check":"held","level":"good","message":"on hold, so not updated: held","remedy":""},{"check":"pending-reboot","level":"good","message":"no reboot is pending","remedy":""},{"check":"services","level":"good","message":"no service has failed since, and services listen on every port as before","remedy":""},{"check":"versions","level":"good","message":"1 update is at its new version","remedy":""},{"check":"packages","level":"block","message":"broken 2.0 is half-configured","remedy":"Run again with --repair (repair: true): it finishes what was interrupted. Or finish it on the machine."}],"prediction":{"stage":0.04,"install":300.0,"reboot":600.0,"validate":60.0,"basis":"defaults"},"install":{"results":[],"transactions":[{"number":0,"updates":["openssl","broken"],"started_at":"2026-03-10T01:01:38.155500+00:00","ended_at":"2026-03-10T01:02:01.155500+00:00","exit_code":100,"detail":"maintainer-script: broken: no","undo":""}],"job_ids":["20260310-010000-aaaaaa-stage-0-1f00c9aec4","20260310-010000-aaaaaa-install-0-599d1ac385"],"kept_configuration_files":[],"unasked":[],"overrun_seconds":0.0,"error":null,"staged_bytes":40000,"staged_seconds":2.0,"overhead_updates":0.5},"reboot_result":{"state":"NotNeeded","reason":"no reboot is asked for","boot_id_before":"","boot_id_after":"","down_seconds":null,"up_seconds":null,"count":0,"mitigated_by":""},"facts":{"os_id":"fake","os_version":"1","os_name":"Fake 1","kernel":"6.1","arch":"x86_64","boot_id":"web-2-boot-1","uptime_seconds":864125.949712,"clock_skew_seconds":0.0,"privilege":"root","managers":["fake"],"job_runner":"systemd","can_reboot":true,"disks":[{"mount":"/","role":"system","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false},{"mount":"/","role":"packages","total_bytes":40960000000,"free_bytes":20480000000,"free_files":null,"read_only":false}],"services":{"failed":[],"listening":["tcp/22","tcp/443"],"known":true,"listeners":[{"name":"tcp/22","program":"","unit":""},{"name":"tcp/443","program":"","unit":""}],"running":[],"ended":[],"late":[],"late_start_seconds":0.0,"active_units":[]},"boot_epoch":1772240400.0,"findings":[],"machine_id":"","instance_id":"","boot_work":"","clock_error_seconds":0.0,"support_end":""},"error":null,"services_to_restart":[],"kernel_before":"6.1"}','{"states":{"Installed":1,"Failed":1,"Excluded":1},"urgent":0,"unclassified":0}',X'789CED923D8FDB300C86FF8AA0A9057245EE46EF2DD0A943C722106889B68928922BC9CE5D83FBEFA524DB4170EDD40C1D2E8011F143E44BF1B9C869349030CAE6C76539CBE622C9C846FA115D8C56EEA48313DE3820E8811D60B3412E263E61BEF3F8699FC3339085D6E64B4FC5A32DC4481D6948E41DBBBFA39E02A5178E459CB11C1BC9960FD4734516243B38A23CF0E5390B7493B59C4CBF50B52F45F2D39E7F3BD9073F8D37F206B42CA6031B71275BEBF5B188E348C09F13058C2A60EB7D5AAB1EDB1A1EA7D6521C72760D041C2DE8F23E87ACB48A562C38D639F8D28CCEF8A0F400AEC7EAAAE7A86A8F45089899228FB7565B9E5E9DC0418F61CB4B94EC52C78FF9B9C056CB219AA82C69741AB7F43A090F047155D4136B52E55172116B30AC9297DEB9141A7EC86BE562AAB2A8AAF095074E0508F9755B71EE776DB41455D0A53C4059F6EBEE0D496DF04774579036FBDF39FA9606EE7C3F883669EF0CDD99A12FBCCB5B802C76490C60BB07ED5D47FD14D0081F44EF1D368211106788222F18458B9DE73F7046389F0672BD380FDEA2A035C3F973234E402EF187E121EA40636A44DD68C371F1019F2909ED0D8AC7FDFEE35B80F3C2FEC06F6161A377B1FE3F76176195DC14A67770EF02EEE7676D27738B2E08868F6175193EA64E339128B0664641E92F6C1D6E5029AEDFF33B8469');
CREATE TABLE requested_runs (
	"key" VARCHAR(255) NOT NULL, 
	flow VARCHAR(255) NOT NULL, 
	request_digest VARCHAR(255) NOT NULL, 
	who TEXT NOT NULL, 
	at DATETIME NOT NULL, 
	flow_run_id VARCHAR(255) NOT NULL, 
	scope TEXT DEFAULT '' NOT NULL, 
	seal VARCHAR(255), 
	CONSTRAINT pk_requested_runs PRIMARY KEY ("key")
);
CREATE TABLE retention (
	what VARCHAR(255) NOT NULL, 
	days INTEGER, 
	applied_at DATETIME, 
	CONSTRAINT pk_retention PRIMARY KEY (what)
);
INSERT INTO "retention" VALUES('assessments',90,NULL);
INSERT INTO "retention" VALUES('runs',730,NULL);
CREATE TABLE rollouts (
	id VARCHAR(255) NOT NULL, 
	state VARCHAR(255) NOT NULL, 
	created_at DATETIME NOT NULL, 
	ended_at DATETIME, 
	document TEXT NOT NULL, 
	updates BLOB NOT NULL, 
	seal VARCHAR(255), 
	CONSTRAINT pk_rollouts PRIMARY KEY (id)
);
CREATE TABLE run_plans (
	run_id VARCHAR(255) NOT NULL, 
	document TEXT NOT NULL, 
	seal VARCHAR(255), 
	CONSTRAINT pk_run_plans PRIMARY KEY (run_id)
);
INSERT INTO "run_plans" VALUES('20260310-010000-aaaaaa','{"run_id":"20260310-010000-aaaaaa","waves":[{"number":1,"machines":["web-1"],"canary":false},{"number":2,"machines":["web-2"],"canary":false}],"hooks":[],"notes":["approved by anna on 2026-03-10 01:01 UTC: tested on web-0"]}','4189c07a:e752385141f8e3e6b8c80eb2ed7030718df2ef00999d7ddd133fc99a14adad4d');
INSERT INTO "run_plans" VALUES('20261127-024154-b0171e','{"run_id":"20261127-024154-b0171e","waves":[{"number":1,"machines":["db-1"],"canary":false},{"number":2,"machines":["db-2"],"canary":false}],"hooks":[],"notes":[]}','4189c07a:08d1e8504c66cef25ca75b20e465437fea1c5789ab8152effeedaa2050aa58f7');
CREATE TABLE run_progress (
	run_id VARCHAR(255) NOT NULL, 
	machine VARCHAR(255) NOT NULL, 
	step VARCHAR(255) NOT NULL, 
	state VARCHAR(255) NOT NULL, 
	fraction FLOAT, 
	message TEXT NOT NULL, 
	since DATETIME NOT NULL, 
	at DATETIME NOT NULL, 
	wave INTEGER, 
	position INTEGER, 
	CONSTRAINT pk_run_progress PRIMARY KEY (run_id, machine)
);
CREATE TABLE runs (
	id VARCHAR(255) NOT NULL, 
	kind VARCHAR(255) NOT NULL, 
	state VARCHAR(255) NOT NULL, 
	started_at DATETIME NOT NULL, 
	ended_at DATETIME, 
	scope TEXT NOT NULL, 
	started_by TEXT NOT NULL, 
	flow_run_id VARCHAR(255) NOT NULL, 
	message TEXT NOT NULL, 
	document TEXT NOT NULL, 
	seal VARCHAR(255), 
	CONSTRAINT pk_runs PRIMARY KEY (id)
);
INSERT INTO "runs" VALUES('20260310-010000-aaaaaa','patch','Failed','2026-03-10 01:00:00.001000','2026-03-10 01:02:05.949712','*','bob','','','{"id":"20260310-010000-aaaaaa","kind":"patch","started_at":"2026-03-10T01:00:00.001000+00:00","state":"Failed","request":{"scope":"*","inventory":null,"only_machines":[],"dry_run":false,"updates":{"classifications":[],"include":["*"],"exclude":[],"severities":[],"exclude_requiring_reboot":false,"newest":false,"published_before":null,"as_in_run":""},"window":{"start":null,"minutes":240.0,"zone":"UTC","lead_minutes":0.0},"reboot":"IfRequired","waves":{"canary_count":0,"canary_percent":0.0,"size":1,"percent":100.0,"at_once":1,"pause_minutes":0.0,"failure_budget_count":null,"failure_budget_percent":20.0,"unreachable_percent":50.0,"go_on_after_failed_canary":false,"keep_locations_apart":false},"approval":{"required":true,"expires_minutes":null,"changed":"trim","not_by_starter":true,"by":[]},"hooks":{"before_run":[],"after_run":[],"before_wave":[],"after_wave":[],"before_machine":[],"after_machine":[]},"notify":[],"freezes":[],"override_freeze":"","reboot_if_live_patched":true,"live_patched_reboot_days":null,"reboot_pending_first":false,"reboot_reserve_minutes":15.0,"max_reboots":2,"going_down_minutes":null,"coming_up_minutes":null,"allow_removals":false,"remove_unused_kernels":false,"accept_licences":false,"repair":false,"native_updaters":"leave","patched_by_others":"warn","restart_services":"Never","restart_services_exclude":[],"stage":true,"download_only":false,"refresh":true,"settle_seconds":10.0,"assess_at_once":1,"configuration":"","outside_window":false,"report_directory":null,"report_formats":["html","csv","parquet","json"]},"window":{"start":"2026-03-10T01:00:00.001000+00:00","end":"2026-03-10T05:00:00.001000+00:00","zone":"UTC"},"scope":"*","ended_at":"2026-03-10T01:02:05.949712+00:00","started_by":"bob","flow_run_id":"","message":"","role_scope":""}','4189c07a:5f3fb696588dfe570c4878a2a605d9ec1b094350f727e7bc401c695dd80f5cb2');
INSERT INTO "runs" VALUES('20261127-024154-b0171e','patch','InProgress','2026-03-10 02:02:05.950712',NULL,'name=db-1|db-2','anna','','','{"id":"20261127-024154-b0171e","kind":"patch","started_at":"2026-03-10T02:02:05.950712+00:00","state":"InProgress","request":{"scope":"name=db-1|db-2","inventory":null,"only_machines":[],"dry_run":false,"updates":{"classifications":["Critical","Security"],"include":[],"exclude":[],"severities":[],"exclude_requiring_reboot":false,"newest":false,"published_before":null,"as_in_run":""},"window":{"start":null,"minutes":120.0,"zone":"UTC","lead_minutes":0.0},"reboot":"IfRequired","waves":{"canary_count":0,"canary_percent":0.0,"size":1,"percent":20.0,"at_once":20,"pause_minutes":0.0,"failure_budget_count":null,"failure_budget_percent":20.0,"unreachable_percent":50.0,"go_on_after_failed_canary":false,"keep_locations_apart":false},"approval":{"required":false,"expires_minutes":null,"changed":"trim","not_by_starter":false,"by":[]},"hooks":{"before_run":[],"after_run":[],"before_wave":[],"after_wave":[],"before_machine":[],"after_machine":[]},"notify":[],"freezes":[],"override_freeze":"","reboot_if_live_patched":true,"live_patched_reboot_days":null,"reboot_pending_first":false,"reboot_reserve_minutes":15.0,"max_reboots":2,"going_down_minutes":null,"coming_up_minutes":null,"allow_removals":false,"remove_unused_kernels":false,"accept_licences":false,"repair":false,"native_updaters":"leave","patched_by_others":"warn","restart_services":"Never","restart_services_exclude":[],"stage":true,"download_only":false,"refresh":true,"settle_seconds":90.0,"assess_at_once":50,"configuration":"","outside_window":false,"report_directory":"/tmp/pytest-of-root/pytest-640/test_make0/data/fleetpatch/reports","report_formats":["html","csv","parquet","json"]},"window":{"start":"2026-03-10T02:02:05.950712+00:00","end":"2026-03-10T04:02:05.950712+00:00","zone":"UTC"},"scope":"name=db-1|db-2","ended_at":null,"started_by":"anna","flow_run_id":"","message":"","role_scope":""}','4189c07a:74943507320e079cce3b801bb3a6e124522ff1501a64eabbd809f8e02dbcc80d');
CREATE TABLE set_slots (
	set_name VARCHAR(255) NOT NULL, 
	machine VARCHAR(255) NOT NULL, 
	run_id VARCHAR(255) NOT NULL, 
	domain VARCHAR(255) NOT NULL, 
	since DATETIME NOT NULL, 
	reason TEXT NOT NULL, 
	drained BOOLEAN NOT NULL, 
	CONSTRAINT pk_set_slots PRIMARY KEY (set_name, machine)
);
CREATE TABLE stop_requests (
	run_id VARCHAR(255) NOT NULL, 
	who TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	at DATETIME NOT NULL, 
	CONSTRAINT pk_stop_requests PRIMARY KEY (run_id)
);
CREATE TABLE update_cves (
	name VARCHAR(255) NOT NULL, 
	version VARCHAR(255) NOT NULL, 
	cve VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_update_cves PRIMARY KEY (name, version, cve)
)
 WITHOUT ROWID

;
CREATE TABLE update_results (
	number INTEGER NOT NULL, 
	outcome INTEGER NOT NULL, 
	run_id VARCHAR(255) NOT NULL, 
	machine VARCHAR(255) NOT NULL, 
	update_id VARCHAR(255) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	arch VARCHAR(255) NOT NULL, 
	classification VARCHAR(255) NOT NULL, 
	state VARCHAR(255) NOT NULL, 
	reason TEXT NOT NULL, 
	installed TEXT, 
	available TEXT NOT NULL, 
	version_after TEXT, 
	kb VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_update_results PRIMARY KEY (number), 
	CONSTRAINT fk_update_results_outcome_outcomes FOREIGN KEY(outcome) REFERENCES outcomes (number) ON DELETE CASCADE
);
INSERT INTO "update_results" VALUES(1,1,'20260310-010000-aaaaaa','web-1','openssl','openssl','all','Security','Installed','','1.0','2.0','2.0','');
INSERT INTO "update_results" VALUES(2,1,'20260310-010000-aaaaaa','web-1','curl','curl','all','Other','Installed','','1.0','2.0','2.0','');
INSERT INTO "update_results" VALUES(3,2,'20260310-010000-aaaaaa','web-2','openssl','openssl','all','Security','Installed','','1.0','2.0','2.0','');
INSERT INTO "update_results" VALUES(4,2,'20260310-010000-aaaaaa','web-2','broken','broken','all','Other','Failed','left half-configured or gone: 1.0 was there before and nothing whole is there now: maintainer-script: broken: no (exit code 100)','1.0','2.0',NULL,'');
INSERT INTO "update_results" VALUES(5,2,'20260310-010000-aaaaaa','web-2','held','held','all','Other','Excluded','a hold on the machine excludes it','1.0','2.0',NULL,'');
CREATE TABLE update_sightings (
	name VARCHAR(255) NOT NULL, 
	version VARCHAR(255) NOT NULL, 
	first_seen DATETIME NOT NULL, 
	published DATETIME, 
	CONSTRAINT pk_update_sightings PRIMARY KEY (name, version)
);
CREATE TABLE web_sessions (
	digest VARCHAR(255) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	roles TEXT NOT NULL, 
	source VARCHAR(255) NOT NULL, 
	subject VARCHAR(255) NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	used_at DATETIME NOT NULL, 
	checked_at DATETIME NOT NULL, 
	ticket TEXT NOT NULL, 
	seal VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_web_sessions PRIMARY KEY (digest)
);
CREATE INDEX ix_runs_started_at ON runs (started_at);
CREATE INDEX ix_runs_flow_run_id ON runs (flow_run_id);
CREATE INDEX ix_runs_state ON runs (state);
CREATE INDEX ix_assessments_machine_known_at ON assessments (machine, known, at);
CREATE INDEX ix_assessments_run_id ON assessments (run_id);
CREATE INDEX ix_outcomes_machine_started_at ON outcomes (machine, started_at);
CREATE UNIQUE INDEX ix_journal_digest ON journal (digest);
CREATE INDEX ix_journal_run_id_machine_number ON journal (run_id, machine, number);
CREATE INDEX ix_measures_machine_measure_at ON measures (machine, measure, at);
CREATE INDEX ix_approvals_decision ON approvals (decision);
CREATE INDEX ix_occurrences_run_id ON occurrences (run_id);
CREATE INDEX ix_set_slots_run_id ON set_slots (run_id);
CREATE INDEX ix_rollouts_state ON rollouts (state);
CREATE INDEX ix_automatic_runs_rollout_id ON automatic_runs (rollout_id);
CREATE INDEX ix_machine_last_runs_run_id ON machine_last_runs (run_id);
CREATE INDEX ix_update_cves_cve ON update_cves (cve);
CREATE UNIQUE INDEX ix_access_tokens_digest ON access_tokens (digest);
CREATE INDEX ix_web_sessions_name ON web_sessions (name);
CREATE INDEX ix_web_sessions_subject ON web_sessions (subject);
CREATE INDEX ix_audit_log_at ON audit_log (at);
CREATE INDEX ix_assessment_updates_machine ON assessment_updates (machine);
CREATE INDEX ix_assessment_updates_name ON assessment_updates (name);
CREATE INDEX ix_assessment_updates_assessment ON assessment_updates (assessment);
CREATE INDEX ix_update_results_outcome ON update_results (outcome);
CREATE INDEX ix_update_results_name ON update_results (name);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('assessments',6);
INSERT INTO "sqlite_sequence" VALUES('journal',25);
INSERT INTO "sqlite_sequence" VALUES('outcomes',2);
INSERT INTO "sqlite_sequence" VALUES('audit_log',2);
COMMIT;
