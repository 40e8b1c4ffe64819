//! stub
use k8s_openapi::api::core::v1::*;
pub struct Source { pub name: String, pub text: String }
pub struct Manifest { pub pods: Vec<Pod>, pub config_maps: Vec<ConfigMap>, pub secrets: Vec<Secret>, pub warnings: Vec<Diagnostic> }
pub struct Diagnostic; impl std::fmt::Display for Diagnostic{fn fmt(&self,_:&mut std::fmt::Formatter)->std::fmt::Result{todo!()}}
pub fn load(_: &[Source]) -> Result<Manifest, Vec<Diagnostic>>{todo!()}
pub fn quantity_bytes(_:&str)->Result<u64,String>{todo!()}
pub fn quantity_millis(_:&str)->Result<u64,String>{todo!()}
